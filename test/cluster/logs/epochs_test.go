//go:build !windows

package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

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

// TestAStreamOfAnOlderBackupBeginsANewEpoch copies the server's files while it is stopped.
func TestAStreamOfAnOlderBackupBeginsANewEpoch(t *testing.T) {
	s := servers.ForTest(t, 1)
	o := jetstream.Options{URL: s.URL(), Stream: newStream()}
	a, b := open(t, o), open(t, o)
	for i := range 10 {
		add(t, a, text("x", fmt.Sprint(i)))
	}
	must(t, s[0].Stop())
	backup := filepath.Join(t.TempDir(), "backup")
	must(t, os.CopyFS(backup, os.DirFS(s[0].Data())))
	must(t, s[0].Restart())
	must(t, s.Ready())
	var last store.Seq
	for i := range 10 {
		eventually(t, "messages are taken again", func() bool {
			id, err := a.Append(t.Context(), []store.Entry{text("x", fmt.Sprint("lost ", i))})
			last = id.Seq
			return err == nil
		})
	}
	before, _ := end(a)
	must(t, s[0].Stop())
	must(t, os.RemoveAll(s[0].Data()))
	must(t, os.CopyFS(s[0].Data(), os.DirFS(backup)))
	must(t, s[0].Restart())
	must(t, s.Ready())
	for _, l := range []*jetstream.Log{a, b} {
		eventually(t, "a new epoch", func() bool { epoch, _ := end(l); return epoch != before })
	}
	eventually(t, "both show the messages of the backup", func() bool {
		ha, hb := read(t, a, "x", 0), read(t, b, "x", 0)
		return ha == hb && ha.n == 10 && ha.next < last
	})
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
