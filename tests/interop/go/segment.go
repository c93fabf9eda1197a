package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/segmentio/kafka-go"
)

// segment is github.com/segmentio/kafka-go, which has no transactional producer.
type segment struct {
	bootstrap string
	*kafka.Client
}

var segmentCodecs = map[string]kafka.Compression{
	"gzip":   kafka.Gzip,
	"snappy": kafka.Snappy,
	"lz4":    kafka.Lz4,
	"zstd":   kafka.Zstd,
}

func newSegment(bootstrap string) *segment {
	// The library keeps what it knows of topics for MetadataTTL, also that one is not there.
	transport := &kafka.Transport{MetadataTTL: 100 * time.Millisecond}
	return &segment{bootstrap, &kafka.Client{Addr: kafka.TCP(bootstrap), Transport: transport}}
}

func (s *segment) create(ctx context.Context, topic string, partitions int) error {
	config := kafka.TopicConfig{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}
	made, err := s.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{config}})
	if err != nil {
		return err
	}
	return first(made.Errors[topic], s.visible(ctx, topic, partitions))
}

// visible waits until the library's own memory of the cluster has the topic.
func (s *segment) visible(ctx context.Context, topic string, partitions int) error {
	return until(ctx, topic+" is visible", func() bool {
		told, err := s.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
		return err == nil && len(told.Topics) == 1 && len(told.Topics[0].Partitions) == partitions
	})
}

func (s *segment) write(ctx context.Context, topic, codec string, rows []row) error {
	w := &kafka.Writer{
		Addr:         s.Addr,
		Topic:        topic,
		Balancer:     &kafka.RoundRobin{},
		Compression:  segmentCodecs[codec],
		RequiredAcks: kafka.RequireAll,
		BatchTimeout: 5 * time.Millisecond,
		Transport:    s.Transport,
	}
	messages := make([]kafka.Message, len(rows))
	for i, one := range rows {
		headers := []kafka.Header{{Key: "h", Value: []byte(one.header)}}
		messages[i] = kafka.Message{Key: []byte(one.key), Value: []byte(one.value), Headers: headers}
	}
	return first(w.WriteMessages(ctx, messages...), w.Close())
}

func (s *segment) reader(group, topic string) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{
		Brokers:           []string{s.bootstrap},
		GroupID:           group,
		Topic:             topic,
		MinBytes:          1,
		MaxBytes:          1 << 20,
		MaxWait:           250 * time.Millisecond,
		HeartbeatInterval: 200 * time.Millisecond,
		StartOffset:       kafka.FirstOffset,
	})
}

func (s *segment) read(ctx context.Context, topic string, count int) ([]row, error) {
	r := s.reader("", topic)
	defer r.Close()
	var rows []row
	for len(rows) < count {
		m, err := r.ReadMessage(ctx)
		if err != nil {
			return rows, err
		}
		one := row{string(m.Key), string(m.Value), ""}
		if len(m.Headers) == 1 {
			one.header = string(m.Headers[0].Value)
		}
		rows = append(rows, one)
	}
	return rows, nil
}

func (s *segment) join(ctx context.Context, group, topic string, got func(string)) (func() error, error) {
	r := s.reader(group, topic)
	ended := make(chan error, 1)
	go func() {
		for {
			m, err := r.FetchMessage(ctx)
			if errors.Is(err, io.EOF) {
				err = nil
			} else if err == nil {
				got(string(m.Value))
				err = r.CommitMessages(ctx, m)
				if err == nil {
					continue
				}
			}
			ended <- err
			return
		}
	}()
	return func() error { return first(r.Close(), <-ended) }, nil
}

func (s *segment) transactions(context.Context, string) error {
	return errors.New("kafka-go has no transactional producer")
}

func (s *segment) admin(ctx context.Context, name string) error {
	if err := s.create(ctx, name, 1); err != nil {
		return err
	}
	again, err := s.CreateTopics(ctx, &kafka.CreateTopicsRequest{
		Topics: []kafka.TopicConfig{{Topic: name, NumPartitions: 1, ReplicationFactor: 1}},
	})
	if err != nil || !errors.Is(again.Errors[name], kafka.TopicAlreadyExists) {
		return fmt.Errorf("expected TopicAlreadyExists, not %v %v", again, err)
	}
	grown, err := s.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{{Name: name, Count: 3}},
	})
	if err := first(err, grown.Errors[name], s.visible(ctx, name, 3)); err != nil {
		return err
	}
	set := kafka.IncrementalAlterConfigsRequestConfig{
		Name: "retention.ms", Value: "3600000", ConfigOperation: kafka.ConfigOperationSet,
	}
	changed, err := s.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{{
			ResourceType: kafka.ResourceTypeTopic,
			ResourceName: name,
			Configs:      []kafka.IncrementalAlterConfigsRequestConfig{set},
		}},
	})
	if err := first(err, changed.Resources[0].Error); err != nil {
		return err
	}
	asked := &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: name, ConfigNames: []string{"retention.ms"},
		}},
	}
	err = until(ctx, "retention.ms is what was set", func() bool {
		described, err := s.DescribeConfigs(ctx, asked)
		return err == nil && described.Resources[0].ConfigEntries[0].ConfigValue == set.Value
	})
	if err := first(err, s.write(ctx, name, "none", sample(0, 30))); err != nil {
		return err
	}
	return first(s.offsets(ctx, name), s.remove(ctx, name))
}

func (s *segment) offsets(ctx context.Context, name string) error {
	var asked []kafka.OffsetRequest
	for partition := range 3 {
		asked = append(asked, kafka.LastOffsetOf(partition))
	}
	listed, err := s.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{name: asked}})
	if err != nil {
		return err
	}
	total := int64(0)
	for _, one := range listed.Topics[name] {
		total += one.LastOffset
	}
	committed, err := s.OffsetCommit(ctx, &kafka.OffsetCommitRequest{
		GroupID:      name,
		GenerationID: -1,
		Topics:       map[string][]kafka.OffsetCommit{name: {{Partition: 0, Offset: 5, Metadata: "by hand"}}},
	})
	if err := first(err, expect("end offsets", total, int64(30)), committed.Topics[name][0].Error); err != nil {
		return err
	}
	fetched, err := s.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: name, Topics: map[string][]int{name: {0}}})
	if err != nil {
		return err
	}
	return expect("offset", fetched.Topics[name][0].CommittedOffset, int64(5))
}

func (s *segment) remove(ctx context.Context, name string) error {
	groups, err := s.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{name}})
	if err := first(err, groups.Errors[name]); err != nil {
		return err
	}
	topics, err := s.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{name}})
	return first(err, topics.Errors[name])
}
