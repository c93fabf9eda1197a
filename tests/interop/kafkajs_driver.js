// Runs one action of kafkajs: a JSON request on standard input, its JSON result on standard output.
// Bytes travel as base64. An error is printed to standard error and ends the process with code 1.
'use strict';

const { Kafka, CompressionTypes, logLevel, ConfigResourceTypes } = require('kafkajs');

const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP };
const bytes = (text) => (text === null ? null : Buffer.from(text, 'base64'));
const text = (data) => (data === null || data === undefined ? null : Buffer.from(data).toString('base64'));

function headersOf(pairs) {
  const headers = {};
  for (const [name, value] of pairs) {
    const data = bytes(value);
    headers[name] = name in headers ? [].concat(headers[name], data) : data;
  }
  return headers;
}

function pairsOf(headers) {
  const pairs = [];
  for (const [name, value] of Object.entries(headers || {})) {
    for (const one of Array.isArray(value) ? value : [value]) pairs.push([name, text(one)]);
  }
  return pairs;
}

async function produce(kafka, request) {
  const producer = kafka.producer({ idempotent: Boolean(request.idempotent), allowAutoTopicCreation: false });
  await producer.connect();
  const topics = new Map();
  for (const message of request.messages) {
    if (!topics.has(message.topic)) topics.set(message.topic, []);
    topics.get(message.topic).push({
      key: bytes(message.key),
      value: bytes(message.value),
      partition: message.partition,
      timestamp: message.timestamp,
      headers: headersOf(message.headers),
    });
  }
  const result = await producer.sendBatch({
    acks: request.acks === undefined ? -1 : request.acks,
    compression: CODECS[request.codec],
    topicMessages: [...topics].map(([topic, messages]) => ({ topic, messages })),
  });
  await producer.disconnect();
  return result;
}

// Reads until `count` records came; with `commit`, the offsets read are committed before it ends.
async function consume(kafka, request) {
  const consumer = kafka.consumer({
    groupId: request.group,
    sessionTimeout: 6000,
    heartbeatInterval: 500,
    maxWaitTimeInMs: 200,
  });
  await consumer.connect();
  await consumer.subscribe({ topics: request.topics, fromBeginning: true });
  const rows = [];
  const next = new Map();
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
    setTimeout(() => reject(new Error(`only ${rows.length} of ${request.count} records`)), 25000).unref();
    consumer
      .run({
        autoCommit: false,
        eachMessage: async ({ topic, partition, message }) => {
          if (rows.length >= request.count) return;
          rows.push({
            topic,
            partition,
            offset: message.offset,
            timestamp: message.timestamp,
            key: text(message.key),
            value: text(message.value),
            headers: pairsOf(message.headers),
          });
          next.set(`${topic}\n${partition}`, String(BigInt(message.offset) + 1n));
          if (rows.length === request.count) resolve();
        },
      })
      .catch(reject);
  });
  if (request.commit) {
    await consumer.commitOffsets(
      [...next].map(([place, offset]) => {
        const [topic, partition] = place.split('\n');
        return { topic, partition: Number(partition), offset };
      }),
    );
  }
  await consumer.disconnect();
  return rows;
}

// Two members: the second joins, both get partitions; it leaves, the first gets all back.
async function rebalance(kafka, request) {
  const assignments = [];
  const member = async () => {
    const state = { held: null };
    state.consumer = kafka.consumer({
      groupId: request.group,
      sessionTimeout: 6000,
      heartbeatInterval: 200,
      maxWaitTimeInMs: 100,
    });
    state.consumer.on(state.consumer.events.GROUP_JOIN, ({ payload }) => {
      state.held = payload.memberAssignment[request.topic] || [];
    });
    await state.consumer.connect();
    await state.consumer.subscribe({ topics: [request.topic], fromBeginning: true });
    await state.consumer.run({ eachMessage: async () => {} });
    return state;
  };
  const until = async (condition) => {
    const end = Date.now() + 15000;
    while (!condition()) {
      if (Date.now() > end) throw new Error(`stuck after ${JSON.stringify(assignments)}`);
      await new Promise((done) => setTimeout(done, 20));
    }
  };
  const first = await member();
  await until(() => first.held && first.held.length === request.partitions);
  assignments.push([first.held]);
  const second = await member();
  await until(() => second.held && second.held.length > 0 && first.held.length < request.partitions);
  assignments.push([first.held, second.held]);
  await second.consumer.disconnect();
  await until(() => first.held.length === request.partitions);
  assignments.push([first.held]);
  await first.consumer.disconnect();
  return assignments;
}

async function admin(kafka, request) {
  const client = kafka.admin();
  await client.connect();
  const { topic, group } = request;
  const result = {};
  result.created = await client.createTopics({
    topics: [{ topic, numPartitions: 2, configEntries: [{ name: 'retention.ms', value: '3600000' }] }],
    waitForLeaders: true,
  });
  result.listed = (await client.listTopics()).includes(topic);
  await client.createPartitions({ topicPartitions: [{ topic, count: 3 }] });
  const metadata = await client.fetchTopicMetadata({ topics: [topic] });
  result.partitions = metadata.topics[0].partitions.map((one) => one.partitionId).sort();
  const configs = await client.describeConfigs({
    includeSynonyms: false,
    resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configNames: ['retention.ms'] }],
  });
  result.retention = configs.resources[0].configEntries[0].configValue;
  result.cluster = (await client.describeCluster()).brokers.length;
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic, messages: [{ value: 'one', partition: 0 }, { value: 'two', partition: 0 }] });
  await producer.disconnect();
  const byPartition = (rows) => rows.sort((a, b) => a.partition - b.partition);
  result.offsets = byPartition(await client.fetchTopicOffsets(topic)).map((one) => [one.low, one.high]);
  const at = byPartition(await client.fetchTopicOffsetsByTimestamp(topic, 0));
  result.at = at.map((one) => one.offset);
  await client.setOffsets({ groupId: group, topic, partitions: [{ partition: 0, offset: '1' }] });
  const held = await client.fetchOffsets({ groupId: group, topics: [topic] });
  result.committed = held[0].partitions.filter((one) => one.offset !== '-1');
  result.groups = (await client.listGroups()).groups.some((one) => one.groupId === group);
  result.state = (await client.describeGroups([group])).groups[0].state;
  await client.deleteGroups([group]);
  result.groupGone = !(await client.listGroups()).groups.some((one) => one.groupId === group);
  await client.deleteTopics({ topics: [topic] });
  result.topicGone = !(await client.listTopics()).includes(topic);
  await client.disconnect();
  return result;
}

async function main() {
  let input = '';
  for await (const chunk of process.stdin) input += chunk;
  const request = JSON.parse(input);
  const kafka = new Kafka({
    clientId: 'interop',
    brokers: [request.bootstrap],
    logLevel: logLevel.NOTHING,
    retry: { initialRetryTime: 50, retries: 8 },
  });
  const result = await { produce, consume, rebalance, admin }[request.action](kafka, request);
  process.stdout.write(JSON.stringify(result), () => process.exit(0));
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
