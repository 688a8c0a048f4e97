//go:build !windows

package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// documented returns the permissions that docs/CLUSTER.md lists.
func documented(t *testing.T) (publish, subscribe []string) {
	t.Helper()
	text, err := os.ReadFile("../../../docs/CLUSTER.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile(`(?s)permissions: \{\s*publish: \[(.*?)\]\s*subscribe: \[(.*?)\]`).FindSubmatch(text)
	if block == nil {
		t.Fatal("docs/CLUSTER.md has no permissions")
	}
	quoted := func(b []byte) (list []string) {
		for _, s := range regexp.MustCompile(`"[^"]*"`).FindAll(b, -1) {
			list = append(list, strings.Trim(string(s), `"`))
		}
		return list
	}
	return quoted(block[1]), quoted(block[2])
}

// account returns the settings of an account whose user, hub, has some permissions.
func account(publish, subscribe []string) string {
	return fmt.Sprintf(`accounts { A: { jetstream: enabled, users: [
  { user: hub, password: secret, permissions: { publish: [%s], subscribe: [%s] } }
  { user: admin, password: secret }
] } }
`, quote(publish), quote(subscribe))
}

func quote(list []string) string { return `"` + strings.Join(list, `", "`) + `"` }

func as(user, url string) string {
	return strings.Replace(url, "nats://", "nats://"+user+":secret@", 1)
}

// tryToOpen opens a log that must not take as long as the servers may take to elect a leader.
func tryToOpen(t *testing.T, o jetstream.Options) (*jetstream.Log, error) {
	t.Helper()
	o.Times = quick
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	l, err := jetstream.Open(t.Context(), o)
	if err == nil {
		t.Cleanup(func() { _ = l.Close() })
	}
	return l, err
}

// TestTheDocumentedPermissionsSuffice does everything that hubs do with an account that has the permissions of
// docs/CLUSTER.md. Each of them is needed: without it a log is not opened, and the error names it.
func TestTheDocumentedPermissionsSuffice(t *testing.T) {
	publish, subscribe := documented(t)
	s := servers.ForTest(t, 1, account(publish, subscribe))
	o := jetstream.Options{URL: as("hub", s.URL()), Stream: jetstream.DefaultStream, MaxMemory: 1 << 20}
	log := &logText{}
	o.Logger = log.logger()
	a, b := open(t, o), open(t, o)
	filler := strings.Repeat("x", 1000)
	for range 20 {
		var list []store.Entry
		for range 100 {
			list = append(list, text("x", filler))
		}
		add(t, a, list...)
	}
	eventually(t, "the other log has all messages, some of which it reads from the stream", func() bool { return read(t, b, "x", 0).n == 2000 })
	if h := read(t, b, "x", 0); h.gap > 0 {
		t.Errorf("of 2000 messages: %v\n%s", h, log)
	}
	must(t, a.SetPolicy(filters("x")[0], store.Policy{MaxMessages: 10}))
	admin := connect(t, as("admin", s.URL()))
	stream, err := admin.Stream(t.Context(), o.Stream)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "evicted messages are removed", func() bool {
		info, err := stream.Info(t.Context(), js.WithSubjectFilter("wb.WATCHBOX.m.x"))
		return err == nil && info.State.Subjects["wb.WATCHBOX.m.x"] == 10
	})
	b.Hubs().Serve(func(context.Context, []byte) []byte { return []byte("answer") })
	eventually(t, "a hub answers a call", func() bool {
		answer, err := a.Hubs().Call(t.Context(), b.Hubs().Self(), []byte("question"))
		if err != nil && !errors.Is(err, store.ErrNoHub) {
			t.Fatal(err)
		}
		return string(answer) == "answer"
	})
	if log.has("violation") || log.has("may not") {
		t.Errorf("a permission is missing: %s", log)
	}
	must(t, errors.Join(a.Close(), b.Close()))

	without := func(list []string, i int) []string { return slices.Delete(slices.Clone(list), i, i+1) }
	for i, subject := range publish {
		missing(t, o.Stream, account(without(publish, i), subscribe), "publish to", subject)
	}
	for i, subject := range subscribe {
		missing(t, o.Stream, account(publish, without(subscribe, i)), "subscribe to", subject)
	}
}

// TestALogThatTriesAgainToFollowTheStreamNeedsNoOtherPermissions opens a log whose first consumer is refused.
func TestALogThatTriesAgainToFollowTheStreamNeedsNoOtherPermissions(t *testing.T) {
	s := servers.ForTest(t, 1, account(documented(t)))
	var refused atomic.Bool
	busy := rewrite(func(b []byte) []byte {
		const create, nothing = ".CONSUMER.CREATE.", ".CONSUMER.ABSENT." // a call that nobody answers
		if bytes.Contains(b, []byte(create)) && refused.CompareAndSwap(false, true) {
			return bytes.Replace(b, []byte(create), []byte(nothing), 1)
		}
		return b
	})
	l, err := tryToOpen(t, jetstream.Options{URL: as("hub", s.URL()), Stream: jetstream.DefaultStream, Dialer: busy})
	if err != nil || !refused.Load() {
		t.Fatalf("the log is not opened: %v", err)
	}
	add(t, l, text("x", "x"))
}

// missing expects that a log is not opened with an account that lacks a permission, neither on a new server nor if the
// stream exists.
func missing(t *testing.T, stream, account, action, subject string) {
	t.Helper()
	s := servers.ForTest(t, 1, account)
	o := jetstream.Options{URL: as("hub", s.URL()), Stream: stream}
	for _, exists := range []bool{false, true} {
		if exists {
			made := o
			made.URL = as("admin", s.URL())
			must(t, open(t, made).Close())
		}
		_, err := tryToOpen(t, o)
		if err == nil {
			t.Errorf("without %q, the stream exists: %v: the log is opened", subject, exists)
			continue
		}
		named := regexp.MustCompile(action + ` (\S+): .*docs/CLUSTER\.md`).FindStringSubmatch(err.Error())
		if named == nil || !matches(subject, named[1]) || strings.Contains(err.Error(), "\n") {
			t.Errorf("without %q: %v", subject, err)
		}
	}
	s.Kill()
}

// matches reports whether a subject, which may have wildcards, too, is one of those of a pattern.
func matches(pattern, subject string) bool {
	p := strings.NewReplacer(".", `\.`, "$", `\$`, "*", `[^.]+`, ">", ".+").Replace(pattern)
	return regexp.MustCompile("^" + p + "$").MatchString(subject)
}

// TestAStartThatCannotSucceedSaysWhy starts with settings of servers and of the hub that do not fit.
func TestAStartThatCannotSucceedSaysWhy(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), mode))
		return path
	}
	plain := servers.ForTest(t, 1)
	password := servers.ForTest(t, 1, `authorization { user: hub, password: secret }`)
	other := connect(t, plain.URL())
	_, err := other.CreateStream(t.Context(), js.StreamConfig{Name: "OTHER", Subjects: []string{"wb.TAKEN.>"}})
	must(t, err)
	_, err = other.CreateKeyValue(t.Context(), js.KeyValueConfig{Bucket: "BUCKET_hubs", TTL: nats.DefaultTimeout})
	must(t, err)
	bucket := func(stream string, change func(*js.StreamConfig)) {
		c := js.StreamConfig{Name: "KV_" + stream + "_hubs", Subjects: []string{"$KV." + stream + "_hubs.>"}, MaxMsgsPerSubject: 1, Discard: js.DiscardNew, AllowRollup: true, DenyDelete: true, AllowDirect: true}
		change(&c)
		_, err := other.CreateStream(t.Context(), c)
		must(t, err)
	}
	bucket("SMALL", func(c *js.StreamConfig) { c.MaxBytes = 10 })
	bucket("FEW", func(c *js.StreamConfig) { c.MaxMsgs = 1 })
	bucket("SUBJECTS", func(c *js.StreamConfig) { c.Subjects = []string{"foo.>"} })
	bucket("SILENT", func(c *js.StreamConfig) { c.NoAck = true })
	bucket("SHORT", func(c *js.StreamConfig) { c.MaxMsgSize = 5 })
	stream := func(name string, change func(*js.StreamConfig)) {
		must(t, open(t, jetstream.Options{URL: plain.URL(), Stream: "MADE"}).Close())
		s, err := other.Stream(t.Context(), "MADE")
		must(t, err)
		c := s.CachedInfo().Config
		c.Name = name
		for i := range c.Subjects {
			c.Subjects[i] = strings.Replace(c.Subjects[i], "MADE", name, 1)
		}
		change(&c)
		_, err = other.CreateStream(t.Context(), c)
		must(t, err)
	}
	stream("SIZE", func(c *js.StreamConfig) { c.MaxMsgSize = 100 })
	stream("PENDING", func(c *js.StreamConfig) { c.ConsumerLimits.MaxAckPending = 10 })
	stream("INACTIVE", func(c *js.StreamConfig) { c.ConsumerLimits.InactiveThreshold = nats.DefaultTimeout })
	stream("ONE", func(c *js.StreamConfig) { c.MaxConsumers = 1 })
	stream("TWO", func(c *js.StreamConfig) { c.MaxConsumers = 2 })
	open(t, jetstream.Options{URL: plain.URL(), Stream: "TWO"})
	open(t, jetstream.Options{URL: plain.URL(), Stream: "TWO"})
	limited := func(limits string) string {
		return as("hub", servers.ForTest(t, 1, `accounts { A: { jetstream: `+limits+`, users: [{ user: hub, password: secret }] } }`).URL())
	}
	for _, test := range []struct {
		name    string
		options jetstream.Options
		want    string
	}{
		{"a missing file", jetstream.Options{URL: plain.URL(), Creds: filepath.Join(dir, "missing")}, "no such file"},
		{"a folder", jetstream.Options{URL: plain.URL(), Creds: dir}, "is a directory"},
		{"an empty file", jetstream.Options{URL: plain.URL(), Creds: file("empty", "", 0o600)}, "no user JWT and seed"},
		{"another file", jetstream.Options{URL: plain.URL(), Creds: file("other", "token\n", 0o600)}, "no user JWT and seed"},
		{"no password", jetstream.Options{URL: password.URL()}, "--nats-creds"},
		{"a wrong password", jetstream.Options{URL: strings.Replace(password.URL(), "//", "//hub:wrong@", 1)}, "--nats-creds"},
		{"no JetStream", jetstream.Options{URL: servers.ForTest(t, 1, "jetstream: disabled").URL()}, "has no JetStream"},
		{"no JetStream for the account", jetstream.Options{URL: limited("disabled")}, "not enabled for the NATS account"},
		{"no streams for the account", jetstream.Options{URL: limited("{ max_streams: 1 }")}, "the hubs need two"},
		{"no cluster", jetstream.Options{URL: plain.URL(), Replicas: 3}, "--nats-replicas 1"},
		{"subjects of another stream", jetstream.Options{URL: plain.URL(), Stream: "TAKEN"}, "begin with wb.TAKEN"},
		{"another stream", jetstream.Options{URL: plain.URL(), Stream: "OTHER"}, "not a stream of Watchbox"},
		{"another bucket", jetstream.Options{URL: plain.URL(), Stream: "BUCKET"}, "no TTL"},
		{"a bucket without room", jetstream.Options{URL: plain.URL(), Stream: "SMALL"}, "max_bytes"},
		{"a bucket for one message", jetstream.Options{URL: plain.URL(), Stream: "FEW"}, "max_msgs"},
		{"a bucket with other subjects", jetstream.Options{URL: plain.URL(), Stream: "SUBJECTS"}, "subjects must be"},
		{"a bucket that does not acknowledge", jetstream.Options{URL: plain.URL(), Stream: "SILENT"}, "no_ack"},
		{"a bucket for short messages", jetstream.Options{URL: plain.URL(), Stream: "SHORT"}, "max_msg_size"},
		{"a stream for short messages", jetstream.Options{URL: plain.URL(), Stream: "SIZE"}, "max_msg_size"},
		{"a limit of acknowledgements", jetstream.Options{URL: plain.URL(), Stream: "PENDING"}, "max_ack_pending"},
		{"a short threshold", jetstream.Options{URL: plain.URL(), Stream: "INACTIVE"}, "inactive_threshold"},
		{"one consumer", jetstream.Options{URL: plain.URL(), Stream: "ONE"}, "max_consumers must"},
		{"a consumer too many", jetstream.Options{URL: plain.URL(), Stream: "TWO"}, "raise max_consumers of the stream TWO"},
	} {
		_, err := tryToOpen(t, test.options)
		switch {
		case err == nil:
			t.Errorf("%s: the log is opened", test.name)
		case !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n"):
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

// TestALogOpensThoughItsBucketHasNoLeaderForAMoment loses the first time that a log writes what it knows of the stream.
func TestALogOpensThoughItsBucketHasNoLeaderForAMoment(t *testing.T) {
	v := &tapped{}
	o := jetstream.Options{URL: servers.ForTest(t, 1).URL(), Stream: newStream(), Dialer: v}
	lost := v.lose(func(b []byte) bool { return bytes.Contains(b, []byte("PUB $KV."+o.Stream+"_hubs.log ")) })
	go func() {
		<-lost
		v.loseNothing()
	}()
	open(t, o)
}
