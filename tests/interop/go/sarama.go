package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// shopify is github.com/IBM/sarama, which Shopify began.
type shopify struct {
	bootstrap string
}

var saramaCodecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

func (s *shopify) config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.MaxWaitTime = 250 * time.Millisecond
	c.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	return c
}

func (s *shopify) administrator() (sarama.ClusterAdmin, error) {
	return sarama.NewClusterAdmin([]string{s.bootstrap}, s.config())
}

func (s *shopify) create(_ context.Context, topic string, partitions int) error {
	a, err := s.administrator()
	if err != nil {
		return err
	}
	detail := &sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: 1}
	return first(a.CreateTopic(topic, detail, false), a.Close())
}

func (s *shopify) write(_ context.Context, topic, codec string, rows []row) error {
	config := s.config()
	config.Producer.Compression = saramaCodecs[codec]
	p, err := sarama.NewSyncProducer([]string{s.bootstrap}, config)
	if err != nil {
		return err
	}
	return first(p.SendMessages(saramaMessages(topic, rows)), p.Close())
}

func saramaMessages(topic string, rows []row) []*sarama.ProducerMessage {
	messages := make([]*sarama.ProducerMessage, len(rows))
	for i, one := range rows {
		messages[i] = &sarama.ProducerMessage{
			Topic:   topic,
			Key:     sarama.StringEncoder(one.key),
			Value:   sarama.StringEncoder(one.value),
			Headers: []sarama.RecordHeader{{Key: []byte("h"), Value: []byte(one.header)}},
		}
	}
	return messages
}

func (s *shopify) read(ctx context.Context, topic string, count int) ([]row, error) {
	return s.readWith(ctx, topic, count, sarama.ReadUncommitted)
}

func (s *shopify) readWith(ctx context.Context, topic string, count int, level sarama.IsolationLevel) ([]row, error) {
	config := s.config()
	config.Consumer.IsolationLevel = level
	c, err := sarama.NewConsumer([]string{s.bootstrap}, config)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	p, err := c.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	var rows []row
	for len(rows) < count {
		select {
		case m := <-p.Messages():
			one := row{string(m.Key), string(m.Value), ""}
			if len(m.Headers) == 1 {
				one.header = string(m.Headers[0].Value)
			}
			rows = append(rows, one)
		case <-ctx.Done():
			return rows, ctx.Err()
		}
	}
	return rows, nil
}

// saramaMember hands every value on and marks its record.
type saramaMember struct {
	got func(string)
}

func (saramaMember) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (saramaMember) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		m.got(string(message.Value))
		session.MarkMessage(message, "")
	}
	return nil
}

func (s *shopify) join(ctx context.Context, group, topic string, got func(string)) (func() error, error) {
	config := s.config()
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{
		sarama.NewBalanceStrategyCooperativeSticky(),
	}
	g, err := sarama.NewConsumerGroup([]string{s.bootstrap}, group, config)
	if err != nil {
		return nil, err
	}
	working, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil && working.Err() == nil {
			err = g.Consume(working, []string{topic}, saramaMember{got})
		}
		ended <- err
	}()
	return func() error { stop(); return first(<-ended, g.Close()) }, nil
}

// transactions commits one with offsets of a group and aborts the next.
func (s *shopify) transactions(ctx context.Context, name string) error {
	config := s.config()
	config.Producer.Idempotent = true
	config.Producer.Transaction.ID = name
	config.Net.MaxOpenRequests = 1
	if err := s.create(ctx, name, 1); err != nil {
		return err
	}
	p, err := sarama.NewSyncProducer([]string{s.bootstrap}, config)
	if err != nil {
		return err
	}
	defer p.Close()
	rows := sample(0, 12)
	offset := []*sarama.PartitionOffsetMetadata{{Partition: 0, Offset: 7}}
	err = first(
		p.BeginTxn(),
		p.SendMessages(saramaMessages(name, rows[:4])),
		p.AddOffsetsToTxn(map[string][]*sarama.PartitionOffsetMetadata{name: offset}, name),
		p.CommitTxn(),
		p.BeginTxn(),
		p.SendMessages(saramaMessages(name, rows[4:8])),
		p.AbortTxn(),
		p.BeginTxn(),
		p.SendMessages(saramaMessages(name, rows[8:])),
		p.CommitTxn(),
	)
	if err != nil {
		return err
	}
	committed := append(append([]row{}, rows[:4]...), rows[8:]...)
	found, err := s.readWith(ctx, name, 8, sarama.ReadCommitted)
	if err := first(err, expect("committed", found, committed)); err != nil {
		return err
	}
	found, err = s.read(ctx, name, 12)
	if err := first(err, expect("all", found, rows)); err != nil {
		return err
	}
	a, err := s.administrator()
	if err != nil {
		return err
	}
	defer a.Close()
	fetched, err := a.ListConsumerGroupOffsets(name, map[string][]int32{name: {0}})
	if err != nil {
		return err
	}
	return expect("offset of the transaction", fetched.GetBlock(name, 0).Offset, int64(7))
}

func (s *shopify) admin(ctx context.Context, name string) error {
	a, err := s.administrator()
	if err != nil {
		return err
	}
	defer a.Close()
	ms, changed := "3600000", "7200000"
	detail := &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": &ms}}
	set := map[string]sarama.IncrementalAlterConfigsEntry{
		"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &changed},
	}
	err = first(
		a.CreateTopic(name, detail, false),
		a.CreatePartitions(name, 3, nil, false),
		a.IncrementalAlterConfig(sarama.TopicResource, name, set, false),
		s.write(ctx, name, "none", sample(0, 30)),
	)
	if err != nil {
		return err
	}
	if err := a.CreateTopic(name, detail, false); !errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return fmt.Errorf("expected ErrTopicAlreadyExists, not %v", err)
	}
	asked := sarama.ConfigResource{Type: sarama.TopicResource, Name: name, ConfigNames: []string{"retention.ms"}}
	configs, err := a.DescribeConfig(asked)
	if err != nil {
		return err
	}
	described, err := a.DescribeTopics([]string{name})
	if err := first(err, expect("configs", configs[0].Value, changed), expect("partitions", len(described[0].Partitions), 3)); err != nil {
		return err
	}
	latest := map[string]map[int32]int64{name: {0: sarama.OffsetNewest, 1: sarama.OffsetNewest, 2: sarama.OffsetNewest}}
	ends, err := a.ListOffsets(latest, nil)
	if err != nil {
		return err
	}
	before, total := map[int32]int64{}, int64(0)
	for partition, end := range ends[name] {
		before[partition] = end.Offset
		total += end.Offset
	}
	if err := first(expect("end offsets", total, int64(30)), a.DeleteRecords(name, before)); err != nil {
		return err
	}
	return first(saramaGroup(a, name), a.DeleteTopic(name))
}

func saramaGroup(a sarama.ClusterAdmin, name string) error {
	offsets := map[string]map[int32]sarama.OffsetAndMetadata{name: {0: {Offset: 5, Metadata: "by hand"}}}
	if _, err := a.AlterConsumerGroupOffsets(name, offsets, nil); err != nil {
		return err
	}
	groups, err := a.ListConsumerGroups()
	if err != nil {
		return err
	}
	described, err := a.DescribeConsumerGroups([]string{name})
	if err != nil {
		return err
	}
	fetched, err := a.ListConsumerGroupOffsets(name, map[string][]int32{name: {0}})
	if err != nil {
		return err
	}
	_, listed := groups[name]
	block := fetched.GetBlock(name, 0)
	return first(
		expect("listed", listed, true),
		expect("state", described[0].State, "Empty"),
		expect("offset", block.Offset, int64(5)),
		expect("metadata", block.Metadata, "by hand"),
		a.DeleteConsumerGroupOffset(name, name, 0),
	)
}
