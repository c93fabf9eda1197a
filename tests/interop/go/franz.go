package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// franz is github.com/twmb/franz-go, its groups classic and cooperative or of the consumer protocol (KIP-848).
type franz struct {
	bootstrap  string
	serverSide bool
}

var franzCodecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func (f *franz) client(options ...kgo.Opt) (*kgo.Client, error) {
	common := []kgo.Opt{
		kgo.SeedBrokers(f.bootstrap),
		kgo.FetchMaxWait(250 * time.Millisecond),
		kgo.HeartbeatInterval(200 * time.Millisecond),
		kgo.MetadataMinAge(50 * time.Millisecond),
	}
	return kgo.NewClient(append(common, options...)...)
}

func (f *franz) create(ctx context.Context, topic string, partitions int) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = kadm.NewClient(c).CreateTopic(ctx, int32(partitions), 1, nil, topic)
	return err
}

func (f *franz) write(ctx context.Context, topic, codec string, rows []row) error {
	c, err := f.client(kgo.ProducerBatchCompression(franzCodecs[codec]), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer c.Close()
	return c.ProduceSync(ctx, franzRecords(rows)...).FirstErr()
}

func franzRecords(rows []row) []*kgo.Record {
	records := make([]*kgo.Record, len(rows))
	for i, one := range rows {
		headers := []kgo.RecordHeader{{Key: "h", Value: []byte(one.header)}}
		records[i] = &kgo.Record{Key: []byte(one.key), Value: []byte(one.value), Headers: headers}
	}
	return records
}

func (f *franz) read(ctx context.Context, topic string, count int) ([]row, error) {
	return f.readWith(ctx, topic, count)
}

func (f *franz) readWith(ctx context.Context, topic string, count int, options ...kgo.Opt) ([]row, error) {
	start := map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}
	c, err := f.client(append(options, kgo.ConsumePartitions(start))...)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var rows []row
	for len(rows) < count {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return rows, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			one := row{string(r.Key), string(r.Value), ""}
			if len(r.Headers) == 1 {
				one.header = string(r.Headers[0].Value)
			}
			rows = append(rows, one)
		})
	}
	return rows, nil
}

func (f *franz) join(ctx context.Context, group, topic string, got func(string)) (func() error, error) {
	options := []kgo.Opt{
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.BlockRebalanceOnPoll(),
		kgo.DisableAutoCommit(),
	}
	if f.serverSide {
		options = append(options, kgo.ServerSideBalancer())
	} else {
		options = append(options, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	}
	c, err := f.client(options...)
	if err != nil {
		return nil, err
	}
	working, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		for working.Err() == nil {
			c.PollFetches(working).EachRecord(func(r *kgo.Record) { got(string(r.Value)) })
			if err := c.CommitUncommittedOffsets(ctx); err != nil {
				ended <- err
				return
			}
			c.AllowRebalance()
		}
		ended <- nil
	}()
	leave := func() error {
		stop()
		err := <-ended
		c.CloseAllowingRebalance()
		return err
	}
	return leave, nil
}

// transactions commits what it read and wrote in one transaction, aborts another and fences a third.
func (f *franz) transactions(ctx context.Context, name string) error {
	c, err := f.client(
		kgo.TransactionalID(name), kgo.DefaultProduceTopic(name), kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	if err != nil {
		return err
	}
	defer c.Close()
	within := func(end kgo.TransactionEndTry, rows []row) error {
		return first(
			c.BeginTransaction(),
			c.ProduceSync(ctx, franzRecords(rows)...).FirstErr(),
			c.EndTransaction(ctx, end),
		)
	}
	rows := sample(0, 12)
	err = first(
		f.create(ctx, name, 1),
		within(kgo.TryCommit, rows[:4]),
		within(kgo.TryAbort, rows[4:8]),
		within(kgo.TryCommit, rows[8:]),
	)
	if err != nil {
		return err
	}
	committed := append(append([]row{}, rows[:4]...), rows[8:]...)
	found, err := f.readWith(ctx, name, 8, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err := first(err, expect("committed", found, committed)); err != nil {
		return err
	}
	found, err = f.readWith(ctx, name, 12)
	if err := first(err, expect("all", found, rows)); err != nil {
		return err
	}
	if f.serverSide {
		return nil
	}
	return f.fencing(ctx, name, c)
}

func (f *franz) fencing(ctx context.Context, name string, former *kgo.Client) error {
	if err := first(former.BeginTransaction(), former.ProduceSync(ctx, franzRecords(sample(0, 1))...).FirstErr()); err != nil {
		return err
	}
	next, err := f.client(kgo.TransactionalID(name))
	if err != nil {
		return err
	}
	defer next.Close()
	if _, _, err := next.ProducerID(ctx); err != nil {
		return err
	}
	err = former.ProduceSync(ctx, franzRecords(sample(1, 1))...).FirstErr()
	if !errors.Is(err, kerr.InvalidProducerEpoch) && !errors.Is(err, kerr.ProducerFenced) {
		return fmt.Errorf("expected the former producer to be fenced, not %v", err)
	}
	return nil
}

func (f *franz) admin(ctx context.Context, name string) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	defer c.Close()
	a := kadm.NewClient(c)
	ms := "3600000"
	if _, err := a.CreateTopic(ctx, 1, 1, map[string]*string{"retention.ms": &ms}, name); err != nil {
		return err
	}
	_, err = a.CreateTopic(ctx, 1, 1, nil, name)
	if !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("expected TOPIC_ALREADY_EXISTS, not %v", err)
	}
	grown, err := a.UpdatePartitions(ctx, 3, name)
	if err := first(err, grown.Error()); err != nil {
		return err
	}
	changed, err := a.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.DeleteConfig, Name: "retention.ms"}}, name)
	if err == nil {
		_, err = changed.On(name, nil)
	}
	if err != nil {
		return err
	}
	err = until(ctx, "retention.ms is no longer set", func() bool {
		described, err := a.DescribeTopicConfigs(ctx, name)
		if err != nil || len(described) != 1 {
			return false
		}
		for _, one := range described[0].Configs {
			if one.Key == "retention.ms" {
				return one.Source.String() == "DEFAULT_CONFIG"
			}
		}
		return false
	})
	if err := first(err, f.write(ctx, name, "none", sample(0, 30))); err != nil {
		return err
	}
	ends, err := a.ListEndOffsets(ctx, name)
	if err != nil {
		return err
	}
	total := int64(0)
	ends.Each(func(o kadm.ListedOffset) { total += o.Offset })
	if err := first(ends.Error(), expect("end offsets", total, int64(30)), expect("partitions", len(ends[name]), 3)); err != nil {
		return err
	}
	deleted, err := a.DeleteRecords(ctx, ends.Offsets())
	if err := first(err, deleted.Error()); err != nil {
		return err
	}
	starts, err := a.ListStartOffsets(ctx, name)
	if err := first(err, expect("start offsets", starts.Offsets(), ends.Offsets())); err != nil {
		return err
	}
	return first(franzGroups(ctx, a, name, starts.Offsets()), franzDelete(ctx, a, name))
}

func franzGroups(ctx context.Context, a *kadm.Client, group string, offsets kadm.Offsets) error {
	if err := a.CommitAllOffsets(ctx, group, offsets); err != nil {
		return err
	}
	lags, err := a.Lag(ctx, group)
	if err := first(err, lags.Error()); err != nil {
		return err
	}
	if err := first(expect("state", lags[group].State, "Empty"), expect("lag", lags[group].Lag.Total(), int64(0))); err != nil {
		return err
	}
	gone, err := a.DeleteGroups(ctx, group)
	return first(err, gone.Error())
}

func franzDelete(ctx context.Context, a *kadm.Client, name string) error {
	gone, err := a.DeleteTopics(ctx, name)
	if err := first(err, gone.Error()); err != nil {
		return err
	}
	return until(ctx, "the topic is gone", func() bool {
		left, err := a.ListTopics(ctx, name)
		return err == nil && errors.Is(left[name].Err, kerr.UnknownTopicOrPartition)
	})
}
