package disk_test

import (
	"os"
	"testing"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
)

// TestAStoreWrittenBeforeMetadataOpensAsItIs opens a folder of the last version whose messages had no metadata.
func TestAStoreWrittenBeforeMetadataOpensAsItIs(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/before-metadata")); err != nil {
		t.Fatal(err)
	}
	const want = "id: u6i3vi-1\n" +
		`data: {"id":"u6i3vi-1","group":"foo","time":"2026-11-28T15:42:59.494Z","msg":"plain text"}` + "\n\n" +
		"id: u6i3vi-2\nevent: alarm\n" +
		`data: {"id":"u6i3vi-2","group":"foo","event":"alarm","uid":"4347ce1e-ef2b-84d4-8ffd-935ae735b9b0","time":"2026-11-28T15:42:59.507Z","retain":true,"msg":{"a":[1,2]}}` + "\n\n" +
		"id: u6i3vi-3\n" +
		`data: {"id":"u6i3vi-3","group":"bar","time":"2026-11-28T15:42:59.535Z","encoding":"base64","msg":"//4="}` + "\n\n" +
		"id: u6i3vi-4\n" +
		`data: {"id":"u6i3vi-4","group":"foo","time":"2026-11-28T15:42:59.698Z","msg":"once"}` + "\n\n"
	l, err := disk.Open(disk.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	m := store.Message{Group: "foo", Meta: [][2]string{{"a", "1"}}, Msg: []byte("5")}
	if _, err := l.Append(t.Context(), []store.Entry{m.Entry(nil)}); err != nil {
		t.Fatal(err)
	}
	b := store.Batch{Buf: make([]byte, 0, 1<<20)}
	if err := l.Read(store.Query{Select: everything{}}, &b); err != nil || len(b.Frames) != 5 || len(b.Gaps) > 0 {
		t.Fatalf("%d messages and the gaps %v, %v", len(b.Frames), b.Gaps, err)
	}
	old, added := b.Frames[:4], &b.Frames[4]
	if got := string(b.Buf[:added.At]); got != want {
		t.Errorf("the store has\n%s\nwant\n%s", got, want)
	}
	for i, msg := range []string{`"plain text"`, `{"a":[1,2]}`, `"//4="`, `"once"`} {
		if f := &old[i]; string(f.JSON()) != msg || f.Meta() != nil || len(f.UID()) > 0 != (i == 1) {
			t.Errorf("message %d has msg %s, metadata %q and uid %s", i+1, f.JSON(), f.Meta(), f.UID())
		}
	}
	if meta := added.Meta(); len(meta) != 1 || meta[0] != m.Meta[0] {
		t.Errorf("the new message has the metadata %q", meta)
	}
	b.Reset("")
	if err := l.Read(store.Query{Select: group.Exact("foo"), Retained: true}, &b); err != nil || len(b.Frames) != 1 || b.Frames[0].Seq != 2 {
		t.Errorf("the retained messages are %v, %v", b.Frames, err)
	}
}
