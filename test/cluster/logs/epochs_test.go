//go:build !windows

package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

func TestAStreamThatIsDeletedBeginsANewEpoch(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	o := jetstream.Options{URL: url, Stream: newStream()}
	a, b := open(t, o), open(t, o)
	for i := range 10 {
		add(t, a, text("x", fmt.Sprint(i)))
	}
	before, _ := end(a)
	must(t, admin.DeleteStream(t.Context(), o.Stream))
	for _, l := range []*jetstream.Log{a, b} {
		eventually(t, "a new epoch", func() bool { epoch, _ := end(l); return epoch != before })
	}
	var seq store.Seq
	eventually(t, "messages are taken again", func() bool {
		id, err := b.Append(t.Context(), []store.Entry{text("x", "new")})
		seq = id.Seq
		return err == nil
	})
	eventually(t, "both have the same epoch and message", func() bool {
		ha, hb := read(t, a, "#", 0), read(t, b, "#", 0)
		return ha == hb && ha.n == 1 && ha.next == seq
	})
}

// backup has the files of a server, as they were at a time.
type backup struct {
	*testing.T
	servers servers.Servers
	dir     string
}

// newBackup stops the server, copies its files and starts it again.
func newBackup(t *testing.T, s servers.Servers) *backup {
	t.Helper()
	b := &backup{t, s, filepath.Join(t.TempDir(), "backup")}
	must(t, s[0].Stop())
	must(t, os.CopyFS(b.dir, os.DirFS(s[0].Data())))
	b.start()
	return b
}

func (b *backup) start() {
	b.Helper()
	must(b, b.servers[0].Restart())
	must(b, b.servers.Ready())
}

// restore gives the server the files of the backup, but keeps those of the bucket of a stream; "": of none.
func (b *backup) restore(stream string) {
	b.Helper()
	must(b, b.servers[0].Stop())
	b.replace(stream)
}

// replace is restore of a server that was stopped.
func (b *backup) replace(stream string) {
	b.Helper()
	s := b.servers[0]
	if stream != "" {
		bucket := filepath.Join("$G", "streams", "KV_"+stream+"_hubs")
		must(b, os.RemoveAll(filepath.Join(b.dir, bucket)))
		must(b, os.CopyFS(filepath.Join(b.dir, bucket), os.DirFS(filepath.Join(s.Data(), bucket))))
	}
	must(b, os.RemoveAll(s.Data()))
	must(b, os.CopyFS(s.Data(), os.DirFS(b.dir)))
	b.start()
}

// TestAStreamOfAnOlderBackupBeginsANewEpoch restores the same backup twice.
func TestAStreamOfAnOlderBackupBeginsANewEpoch(t *testing.T) {
	s := servers.ForTest(t, 1)
	o := jetstream.Options{URL: s.URL(), Stream: newStream()}
	a, b := open(t, o), open(t, o)
	for i := range 10 {
		add(t, a, text("x", fmt.Sprint(i)))
	}
	old := newBackup(t, s)
	var epochs []string
	for range 2 {
		var last store.Seq
		for i := range 10 {
			eventually(t, "messages are taken again", func() bool {
				id, err := a.Append(t.Context(), []store.Entry{text("x", fmt.Sprint("lost ", i))})
				last = id.Seq
				return err == nil
			})
		}
		before, _ := end(a)
		epochs = append(epochs, before)
		old.restore("")
		for _, l := range []*jetstream.Log{a, b} {
			eventually(t, "a new epoch", func() bool { epoch, _ := end(l); return epoch != before })
		}
		eventually(t, "both show the messages of the backup", func() bool {
			ha, hb := read(t, a, "x", 0), read(t, b, "x", 0)
			return ha == hb && ha.n == 10 && ha.next < last
		})
	}
	if now, _ := end(a); slices.Contains(epochs, now) {
		t.Errorf("after the epochs %v, there is %s again", epochs, now)
	}
}

// storeAgain stores the newest message with a subject again, n times, as somebody may who does not know which stream it is.
func storeAgain(t *testing.T, admin client, stream, subject string, n int, header nats.Header) {
	t.Helper()
	var m *js.RawStreamMsg
	eventually(t, "the server answers", func() bool {
		s, err := admin.Stream(t.Context(), stream)
		if err == nil {
			m, err = s.GetLastMsgForSubject(t.Context(), subject)
		}
		return err == nil
	})
	for range n {
		_, err := admin.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: m.Data, Header: header})
		must(t, err)
	}
}

// TestAnOlderBackupIsNoticedThoughItGrowsAtOnce makes the stream longer than the hubs know it before they can be certain that it is another one.
// Publishers wait for the server meanwhile.
func TestAnOlderBackupIsNoticedThoughItGrowsAtOnce(t *testing.T) {
	for name, header := range map[string]nats.Header{
		"where the last record was, there is another one": nil,
		"where the last record was, there is nothing":     {"Nats-Rollup": {"sub"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := servers.ForTest(t, 1)
			admin := connect(t, s.URL())
			o := jetstream.Options{URL: s.URL(), Stream: newStream()}
			a, b := open(t, o), open(t, o)
			add(t, a, text("x", "first"), text("y", "first"))
			_, err := a.AppendNoted(t.Context(), nil, store.Note{Key: "y", Value: []byte("1")})
			must(t, err)
			old := newBackup(t, s)
			const lost, waiting = 5, 50
			for range lost {
				eventually(t, "messages are taken again", func() bool {
					_, err := a.Append(t.Context(), []store.Entry{text("x", "lost")})
					return err == nil
				})
			}
			before, last := end(a)
			eventually(t, "both have read all", func() bool { _, at := end(b); return at == last })
			var publishers sync.WaitGroup
			defer publishers.Wait()
			must(t, s[0].Stop())
			for range waiting {
				publishers.Go(func() {
					_, err := b.Append(context.Background(), []store.Entry{text("x", "waiting")})
					must(t, err)
				})
			}
			old.replace("")
			storeAgain(t, admin, o.Stream, "wb."+o.Stream+".m.y", 1, nil)
			storeAgain(t, admin, o.Stream, "wb."+o.Stream+".n.y", int(last), header)
			for _, l := range []*jetstream.Log{a, b} {
				eventually(t, "a new epoch", func() bool { epoch, _ := end(l); return epoch != before })
			}
			publishers.Wait()
			eventually(t, "both have what the stream has", func() bool {
				ha, hb := read(t, a, "x", 0), read(t, b, "x", 0)
				return ha == hb && ha.texts()["waiting"] >= waiting && ha.texts()["lost"] == 0 && ha.texts()["first"] == 1
			})
		})
	}
}

// TestAnOlderBackupIsNoticedByTheLastMessage has a backup that has nothing where the last record was, which was a note. For its server, nothing is
// later than what the hub has read.
func TestAnOlderBackupIsNoticedByTheLastMessage(t *testing.T) {
	s := servers.ForTest(t, 1)
	admin := connect(t, s.URL())
	o := jetstream.Options{URL: s.URL(), Stream: newStream(), Dialer: rewrite(func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte(`"start_time":"2`), []byte(`"start_time":"9`))
	})}
	a := open(t, o)
	add(t, a, text("y", "first"))
	note := func(value string) error {
		_, err := a.AppendNoted(t.Context(), nil, store.Note{Key: "y", Value: []byte(value)})
		return err
	}
	must(t, note("1"))
	_, first := end(a)
	old := newBackup(t, s)
	eventually(t, "messages are taken again", func() bool {
		_, err := a.Append(t.Context(), []store.Entry{text("y", "lost")})
		return err == nil
	})
	eventually(t, "so are notes", func() bool { return note("2") == nil })
	before, last := end(a)
	must(t, s[0].Stop())
	old.replace("")
	storeAgain(t, admin, o.Stream, "wb."+o.Stream+".m.y", int(last-first-1), nil)
	storeAgain(t, admin, o.Stream, "wb."+o.Stream+".n.y", int(last), nats.Header{"Nats-Rollup": {"sub"}})
	eventually(t, "a new epoch", func() bool { epoch, _ := end(a); return epoch != before })
}

// TestANoteThatIsAppendedWhileABackupIsRestoredIsNewer appends a version of a note that the backup does not have. Waiting messages make the backup longer
// than the position of the version before. The hubs know that version, and store again what the backup lacks.
func TestANoteThatIsAppendedWhileABackupIsRestoredIsNewer(t *testing.T) {
	s := servers.ForTest(t, 1)
	o := jetstream.Options{URL: s.URL(), Stream: newStream(), Times: quick}
	a, b := open(t, o), open(t, o)
	set := func(l *jetstream.Log, key, value string) error {
		_, err := l.AppendNoted(t.Context(), nil, store.Note{Key: key, Value: []byte(value)})
		return err
	}
	add(t, a, text("x", "first"))
	old := newBackup(t, s)
	for _, value := range []string{"1", "2", "3"} {
		eventually(t, "notes are taken again", func() bool { return set(a, "note", value) == nil })
	}
	must(t, set(a, "other", "1"))
	must(t, b.CatchUp(t.Context()))
	before, _ := end(a)
	must(t, s[0].Stop())
	eventually(t, "the log is away", func() bool { return b.Err() != nil })
	var publishers sync.WaitGroup
	for range 50 {
		publishers.Go(func() {
			_, err := b.Append(t.Context(), []store.Entry{text("x", "waiting")})
			must(t, err)
		})
	}
	publishers.Go(func() { must(t, set(b, "note", "new")) })
	old.replace("")
	publishers.Wait()
	for _, l := range []*jetstream.Log{a, b} {
		eventually(t, "a new epoch", func() bool { epoch, _ := end(l); return epoch != before })
		notes := map[string]string{}
		eventually(t, "the other note is stored again", func() bool {
			must(t, l.Notes(func(n store.Note) error { notes[n.Key] = string(n.Value); return nil }))
			return notes["other"] != ""
		})
		must(t, l.CatchUp(t.Context())) // the first log stores them all at once
		must(t, l.Notes(func(n store.Note) error { notes[n.Key] = string(n.Value); return nil }))
		if notes["note"] != "new" {
			t.Errorf("an older version has replaced the last one: %q", notes)
		}
	}
}

// TestALongerBackupOfAnEndedEpochIsNoticed restores a backup that is too old, and then a newer one, which has more messages than
// were stored meanwhile.
func TestALongerBackupOfAnEndedEpochIsNoticed(t *testing.T) {
	s := servers.ForTest(t, 1)
	o := jetstream.Options{URL: s.URL(), Stream: newStream()}
	a, b := open(t, o), open(t, o)
	add(t, a, text("x", "first"))
	older := newBackup(t, s)
	for i := range 100 {
		eventually(t, "messages are taken again", func() bool {
			_, err := a.Append(t.Context(), []store.Entry{text("x", fmt.Sprint(i))})
			return err == nil
		})
	}
	most := read(t, a, "x", 0).n // one whose outcome was not known may be there twice
	newer := newBackup(t, s)
	var epochs []string
	for _, backup := range []struct {
		*backup
		n int
	}{{older, 1}, {newer, most}} {
		before, _ := end(a)
		epochs = append(epochs, before)
		backup.restore("")
		for _, l := range []*jetstream.Log{a, b} {
			eventually(t, "a new epoch", func() bool { epoch, _ := end(l); return epoch != before })
		}
		eventually(t, "both show the messages of the backup", func() bool {
			ha, hb := read(t, a, "x", 0), read(t, b, "x", 0)
			return ha == hb && ha.n == backup.n
		})
	}
	if now, _ := end(a); slices.Contains(epochs, now) {
		t.Errorf("after the epochs %v, there is %s again", epochs, now)
	}
}

// TestAStreamOfAnOlderBackupBeginsANewEpochAtAStart restores the same backup twice while no hub is running.
func TestAStreamOfAnOlderBackupBeginsANewEpochAtAStart(t *testing.T) {
	s := servers.ForTest(t, 1)
	admin := connect(t, s.URL())
	o := jetstream.Options{URL: s.URL(), Stream: newStream()}
	a := open(t, o)
	for i := range 10 {
		add(t, a, text("x", fmt.Sprint(i)))
	}
	must(t, a.Close())
	old := newBackup(t, s)
	a = open(t, o)
	var epochs []string
	var err error
	for range 2 {
		var last store.Seq
		for i := range 100 {
			last = add(t, a, text("x", fmt.Sprint("lost ", i)))
		}
		before, _ := end(a)
		epochs = append(epochs, before)
		must(t, a.Close())
		old.restore(o.Stream)
		eventually(t, "the server answers", func() bool { _, err := admin.Stream(t.Context(), o.Stream); return err == nil })
		eventually(t, "the hub starts", func() bool { a, err = tryToOpen(t, o); return err == nil })
		epoch, from := end(a)
		if slices.Contains(epochs, epoch) || from >= last {
			t.Errorf("after the epochs %v up to %d, there is %s from %d", epochs, last, epoch, from)
		}
		for i := range 10 {
			if seq := add(t, a, text("x", fmt.Sprint("new ", i))); seq >= last {
				t.Errorf("message %d is as far as those of the other epoch", seq)
			}
		}
		if h := read(t, a, "x", 0); h.n != 20 || h.gap > 0 {
			t.Errorf("of 20 messages: %v", h)
		}
	}
}

// TestAMessageOfANewStreamIsNotTakenForTheNextOfTheOldOne replaces the stream by one that gives the next message exactly the
// next seq, long before the consumer counts as lost.
func TestAMessageOfANewStreamIsNotTakenForTheNextOfTheOldOne(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	o := jetstream.Options{URL: url, Stream: newStream(), Times: quick}
	o.Times.Beat, o.Times.Patience = 25*time.Second, patience
	a := open(t, o)
	for i := range 10 {
		add(t, a, text("x", fmt.Sprint(i)))
	}
	before, _ := end(a)
	s, err := admin.Stream(t.Context(), o.Stream)
	must(t, err)
	config, last := s.CachedInfo().Config, store.Seq(0)
	must(t, admin.DeleteStream(t.Context(), o.Stream))
	eventually(t, "the log notices", func() bool { return a.Err() != nil })
	_, err = admin.CreateStream(t.Context(), config)
	must(t, err)
	for _, at := end(a); last < at; { // the janitor may write notes before the stream is deleted
		ack, err := admin.Publish(t.Context(), "wb."+o.Stream+".m.y", []byte("not of a hub"))
		must(t, err)
		last = store.Seq(ack.Sequence)
	}
	id, err := a.Append(t.Context(), []store.Entry{text("x", "new")})
	must(t, err)
	if now, _ := end(a); id.Epoch == before || id.Epoch != now {
		t.Errorf("the epoch was %s and is %s; the message has %s", before, now, id)
	}
}

// anew deletes the stream of logs and makes it again, and returns before they know that.
func anew(t *testing.T, admin client, name string) {
	t.Helper()
	s, err := admin.Stream(t.Context(), name)
	must(t, err)
	must(t, admin.DeleteStream(t.Context(), name))
	_, err = admin.CreateStream(t.Context(), s.CachedInfo().Config)
	must(t, err)
}

// TestAPurgeOfTheOldStreamLosesNothingOfTheNewOne replaces the stream by another one just when a hub sends the mark of a purge. The new one
// has no mark of the group, and takes the one with positions that it reaches only later.
func TestAPurgeOfTheOldStreamLosesNothingOfTheNewOne(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	for name, purge := range map[string]func(l *jetstream.Log, through store.ID) error{
		"of a group":       func(l *jetstream.Log, _ store.ID) error { return l.Purge("x") },
		"up to a position": func(l *jetstream.Log, through store.ID) error { return l.PurgeThrough("x", through) },
	} {
		t.Run(name, func(t *testing.T) {
			o := jetstream.Options{URL: url, Stream: newStream()}
			b := open(t, o)
			dialer := &overtaken{}
			o.Dialer = dialer
			a := open(t, o)
			o.Dialer = nil
			for i := range 100 {
				add(t, a, text("x", fmt.Sprint(i)))
			}
			before, last := end(a)
			eventually(t, "both have read all", func() bool { _, at := end(b); return at == last })
			dialer.by.Store(&rival{".n.evict.x", func() { anew(t, admin, o.Stream) }})
			if err := purge(a, store.ID{Epoch: before, Seq: last}); err != nil && !errors.Is(err, store.ErrAway) {
				t.Error(err)
			}
			for _, l := range []*jetstream.Log{a, b} {
				eventually(t, "a new epoch", func() bool { epoch, _ := end(l); return epoch != before })
			}
			const n = 20
			for i := range n {
				eventually(t, "messages are taken again", func() bool {
					_, err := b.Append(t.Context(), []store.Entry{text("x", fmt.Sprint("new ", i))})
					return err == nil
				})
			}
			for _, l := range []*jetstream.Log{a, b, open(t, o)} {
				eventually(t, "the new messages are there", func() bool {
					h := read(t, l, "x", 0)
					return len(h.texts()) == n && h.gap == 0
				})
			}
		})
	}
}

// TestAPurgeOfTheOldStreamIsNotWrittenIntoABackup has a hub purge messages before it knows that the servers have an older backup.
func TestAPurgeOfTheOldStreamIsNotWrittenIntoABackup(t *testing.T) {
	for name, grown := range map[string]int{
		"in place of the group's own mark":          0,
		"behind messages that others store at once": 50,
	} {
		t.Run(name, func(t *testing.T) {
			s := servers.ForTest(t, 1)
			admin := connect(t, s.URL())
			o := jetstream.Options{URL: s.URL(), Stream: newStream(), Times: quick}
			o.Times.Grace = time.Hour
			a, b := open(t, o), open(t, o)
			const evicted, kept = 10, 10
			for i := range evicted + kept {
				if i == evicted {
					must(t, a.Purge("x"))
				}
				add(t, a, text("x", fmt.Sprint(i)))
			}
			gap := read(t, a, "x", 0).gap
			old := newBackup(t, s)
			for i := range 10 {
				eventually(t, "messages are taken again", func() bool {
					_, err := a.Append(t.Context(), []store.Entry{text("x", fmt.Sprint("lost ", i))})
					return err == nil
				})
			}
			before, last := end(a)
			old.restore("")
			storeAgain(t, admin, o.Stream, "wb."+o.Stream+".m.x", grown, nil)
			must(t, a.PurgeThrough("x", store.ID{Epoch: before, Seq: last}))
			for _, l := range []*jetstream.Log{a, b} {
				eventually(t, "a new epoch", func() bool { epoch, _ := end(l); return epoch != before })
			}
			for _, l := range []*jetstream.Log{a, b, open(t, o)} {
				eventually(t, "what was evicted is away, and the rest is there", func() bool {
					h := read(t, l, "x", 0)
					return h.n == kept+grown && h.gap == gap
				})
			}
		})
	}
}

// TestAPurgeByHandOfTheOldStreamIsForgotten purges a group by hand. Before a hub can write what is lost, the servers get an older backup, in which the group
// has lost nothing.
func TestAPurgeByHandOfTheOldStreamIsForgotten(t *testing.T) {
	s := servers.ForTest(t, 1)
	admin, v := connect(t, s.URL()), &tapped{}
	o := jetstream.Options{URL: s.URL(), Stream: newStream(), MaxMemory: 1 << 20, Dialer: v}
	a := open(t, o)
	const each = 40
	for _, group := range []string{"before", "x", "behind"} { // x is not in memory
		for range each {
			add(t, a, text(group, strings.Repeat("x", 40_000)))
		}
	}
	old := newBackup(t, s)
	eventually(t, "messages are taken again", func() bool {
		_, err := a.Append(t.Context(), []store.Entry{text("behind", "lost")})
		return err == nil
	})
	before, _ := end(a)
	marked := v.lose(func(b []byte) bool { return bytes.Contains(b, []byte(".n.evict.x")) })
	purge := func(group string) {
		stream, err := admin.Stream(t.Context(), o.Stream)
		must(t, err)
		must(t, stream.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m."+group)))
	}
	purge("x")
	<-marked
	old.restore("")
	v.loseNothing()
	eventually(t, "a new epoch", func() bool { epoch, _ := end(a); return epoch != before })
	eventually(t, "the messages of the backup are there", func() bool { return read(t, a, "behind", 0).n == each })
	purge("before")
	eventually(t, "the other purge is told", func() bool { h := read(t, a, "before", 0); return h.gap > 0 && h.n == 0 })
	if h := read(t, a, "x", 0); h.n != each || h.gap > 0 {
		t.Errorf("of %d messages: %v", each, h)
	}
}
