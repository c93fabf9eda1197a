// Drives @platformatic/kafka for the tests: a JSON request on standard input, a JSON result on standard output.
//
// Request: {"action": ..., "bootstrap": "host:port", ...}. The package is found in the directory named by the
// environment variable MODULES, since modules of this kind do not look at NODE_PATH.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// Node 20, which the package says it runs on, does not have this yet.
Promise.withResolvers ??= function () {
  const made = {};
  made.promise = new this((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};

const found = createRequire(`${process.env.MODULES}/package.json`).resolve("@platformatic/kafka");
const { Admin, Consumer, FetchIsolationLevels, Producer, stringDeserializers, stringSerializers } = await import(
  pathToFileURL(found)
);

const request = JSON.parse(readFileSync(0, "utf8"));
const common = { clientId: "driver", bootstrapBrokers: [request.bootstrap] };
const open = [];

function client(Kind, options = {}) {
  const made = new Kind({ ...common, ...options });
  open.unshift(made);
  return made;
}

const producer = (options = {}) => client(Producer, { serializers: stringSerializers, ...options });

const consumer = (options = {}) =>
  client(Consumer, {
    groupId: request.group,
    deserializers: stringDeserializers,
    groupProtocol: request.protocol ?? "classic",
    isolationLevel: FetchIsolationLevels.READ_COMMITTED,
    maxWaitTime: 500,
    ...options,
  });

const messages = (from, count) =>
  Array.from({ length: count }, (_, i) => ({
    topic: request.topic,
    key: `k${from + i}`,
    value: `v${from + i}`,
    headers: { h: `${from + i}` },
  }));

async function read(count, commit) {
  const reader = consumer();
  const stream = await reader.consume({ topics: [request.topic], mode: "committed", fallbackMode: "earliest", autocommit: false });
  const values = [];
  for await (const message of stream) {
    values.push([message.key, message.value, message.headers.get("h")]);
    if (commit) await message.commit();
    if (values.length === count) break;
  }
  await reader.close(true);
  open.splice(open.indexOf(reader), 1);
  return values.sort();
}

const actions = {
  async roundTrip() {
    const writer = producer({ idempotent: true, compression: request.compression });
    await writer.send({ messages: messages(0, request.count) });
    return await read(request.count, true);
  },

  async transactions() {
    const writer = producer({ idempotent: true, transactionalId: request.id });
    // One abort: of two by one producer in one fetch answer this client passes over the last alone.
    for (const end of ["commit", "abort", "commit"]) {
      const transaction = await writer.beginTransaction();
      await transaction.send({ messages: messages(end === "commit" ? 10 : 0, 5) });
      await transaction[end]();
    }
    return await read(10, false);
  },

  async offsetsOfMember() {
    const admin = client(Admin);
    const member = consumer();
    await member.joinGroup();
    for (const offset of [1n, 2n]) {
      await member.commit({ offsets: [{ topic: request.topic, partition: 0, leaderEpoch: 7, offset }] });
    }
    const asked = [{ name: request.topic, partitionIndexes: [0] }];
    const told = async () => {
      const [group] = await admin.listConsumerGroupOffsets({ groups: [{ groupId: request.group, topics: asked }] });
      const [one] = group.topics[0].partitions;
      return [Number(one.committedOffset), one.committedLeaderEpoch];
    };
    const before = await told();
    await admin.deleteConsumerGroupOffsets({ groupId: request.group, topics: asked });
    return [before, await told()];
  },
};

try {
  process.stdout.write(JSON.stringify(await actions[request.action]()));
} finally {
  for (const one of open) await (one instanceof Consumer ? one.close(true) : one.close());
}
