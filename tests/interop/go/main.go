// Scenarios with Go's Kafka clients: scenarios CLIENT SCENARIO BOOTSTRAP NAME.
//
// NAME begins the names of all topics, groups and transactional ids that a scenario uses. A scenario that came
// out as it does with Apache Kafka ends with exit code 0, another with 1 and a sentence on standard error.
package main

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"sync"
	"time"
)

const limit = 30 * time.Second

var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// row is one record; its header is named "h".
type row struct {
	key, value, header string
}

// client is what all scenarios need of a library.
type client interface {
	create(ctx context.Context, topic string, partitions int) error
	write(ctx context.Context, topic, codec string, rows []row) error
	// read returns the first count records of partition 0.
	read(ctx context.Context, topic string, count int) ([]row, error)
	// join consumes with a group from the start of the topic, calls got with every value from one goroutine,
	// and commits. leave commits the rest and returns when the member has left.
	join(ctx context.Context, group, topic string, got func(value string)) (leave func() error, err error)
	transactions(ctx context.Context, name string) error
	admin(ctx context.Context, name string) error
}

var clients = map[string]func(bootstrap string) client{
	"franz-go":     func(bootstrap string) client { return &franz{bootstrap: bootstrap} },
	"franz-go-848": func(bootstrap string) client { return &franz{bootstrap: bootstrap, serverSide: true} },
	"sarama":       func(bootstrap string) client { return &shopify{bootstrap: bootstrap} },
	"kafka-go":     func(bootstrap string) client { return newSegment(bootstrap) },
}

var scenarios = map[string]func(ctx context.Context, c client, name string) error{
	"codecs":       everyCodec,
	"group":        groupLosesNothing,
	"transactions": func(ctx context.Context, c client, name string) error { return c.transactions(ctx, name) },
	"admin":        func(ctx context.Context, c client, name string) error { return c.admin(ctx, name) },
}

func main() {
	if len(os.Args) != 5 || clients[os.Args[1]] == nil || scenarios[os.Args[2]] == nil {
		fmt.Fprintln(os.Stderr, "usage: scenarios CLIENT SCENARIO BOOTSTRAP NAME")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := scenarios[os.Args[2]](ctx, clients[os.Args[1]](os.Args[3]), os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// expect returns an error unless the two are deeply equal.
func expect(what string, got, want any) error {
	if reflect.DeepEqual(got, want) {
		return nil
	}
	return fmt.Errorf("%s: expected %#v, not %#v", what, want, got)
}

// first returns the first error there is.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func sample(begin, count int) []row {
	rows := make([]row, count)
	for i := range rows {
		number := fmt.Sprintf("%05d", begin+i)
		rows[i] = row{"key " + number, number, "header " + number}
	}
	return rows
}

// everyCodec reads back what it wrote, in batches of every codec.
func everyCodec(ctx context.Context, c client, name string) error {
	for _, codec := range codecs {
		topic := name + "-" + codec
		rows := sample(0, 200)
		if err := first(c.create(ctx, topic, 1), c.write(ctx, topic, codec, rows)); err != nil {
			return fmt.Errorf("%s: %w", codec, err)
		}
		found, err := c.read(ctx, topic, len(rows))
		if err := first(err, expect(codec, found, rows)); err != nil {
			return fmt.Errorf("%s: %w", codec, err)
		}
	}
	return nil
}

// seen collects the values of one member.
type seen struct {
	mutex  sync.Mutex
	values map[string]bool
}

func (s *seen) add(value string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.values == nil {
		s.values = map[string]bool{}
	}
	s.values[value] = true
}

func (s *seen) snapshot() map[string]bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found := map[string]bool{}
	for value := range s.values {
		found[value] = true
	}
	return found
}

// groupLosesNothing lets a second member join a working one. Both get records, together they get all, and
// whoever comes after them begins where they stopped.
func groupLosesNothing(ctx context.Context, c client, name string) error {
	topic, group := name, name
	written := 40
	if err := first(c.create(ctx, topic, 4), c.write(ctx, topic, "none", sample(0, written))); err != nil {
		return err
	}
	var one, two, later seen
	leaveOne, err := c.join(ctx, group, topic, one.add)
	if err != nil {
		return err
	}
	if err := until(ctx, "the first member has read all", func() bool { return len(one.snapshot()) == written }); err != nil {
		return err
	}
	leaveTwo, err := c.join(ctx, group, topic, two.add)
	if err != nil {
		return err
	}
	for len(two.snapshot()) == 0 {
		if err := c.write(ctx, topic, "none", sample(written, 8)); err != nil {
			return fmt.Errorf("while the second member joined: %w", err)
		}
		written += 8
		time.Sleep(50 * time.Millisecond)
	}
	together := func() int {
		all := one.snapshot()
		for value := range two.snapshot() {
			all[value] = true
		}
		return len(all)
	}
	if err := until(ctx, "both have read all", func() bool { return together() == written }); err != nil {
		return fmt.Errorf("%w: %d of %d", err, together(), written)
	}
	if err := first(leaveTwo(), leaveOne(), c.write(ctx, topic, "none", sample(written, 8))); err != nil {
		return err
	}
	leave, err := c.join(ctx, group, topic, later.add)
	if err != nil {
		return err
	}
	if err := until(ctx, "the next member has read the rest", func() bool { return len(later.snapshot()) >= 8 }); err != nil {
		return err
	}
	rest := map[string]bool{}
	for _, row := range sample(written, 8) {
		rest[row.value] = true
	}
	return first(expect("read by the next member", later.snapshot(), rest), leave())
}

func until(ctx context.Context, what string, done func() bool) error {
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("not in time: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}
