package disk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
)

// everything selects all groups, including those of the server.
type everything struct{}

func (everything) Match(string) bool { return true }

// fill creates a store with data of all kinds, and returns its content.
func fill(t *testing.T, dir string) string {
	t.Helper()
	l, err := disk.Open(disk.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	f, _ := group.ParseFilter("few/#")
	if err := l.SetPolicy(f, store.Policy{MaxMessages: 3}); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		m := store.Message{
			Group: []string{"a", "few/x", "$presence/a", "b/ü \"q\""}[i%4], Time: time.Now(), Msg: fmt.Appendf(nil, `{"n":%d,"<":"\u2028"}`, i),
			Retain: i%7 == 0,
		}
		if i%3 == 0 {
			m.UID, m.Event = "5fb22bbe-3ba4-8928-b938-4f1a2661e1dd", "reading"
		}
		if i%13 == 0 {
			m.Meta = [][2]string{{"a", "1"}, {"<ü>", "\"\u2028\t"}, {"a", "2"}}
		}
		if i%5 == 0 {
			m.Expires = time.Now().Add(time.Hour)
		}
		if i%11 == 0 {
			m.Base64, m.Msg = true, []byte(`"//4="`)
		}
		if _, err := l.AppendNoted(context.Background(), []store.Entry{m.Entry(nil)}, store.Note{Key: "k", Value: []byte{1, 2}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Purge("a"); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = disk.Open(disk.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	got := content(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return got
}

// content returns everything that can be read from a log.
func content(t *testing.T, l *disk.Log) string {
	t.Helper()
	var out strings.Builder
	oldest, newest := l.Bounds()
	_, _ = fmt.Fprintln(&out, oldest, newest)
	for _, retained := range []bool{false, true} {
		b := store.Batch{Buf: make([]byte, 0, 1<<20)}
		q := store.Query{Select: everything{}, Retained: retained, Through: newest.Seq}
		if err := l.Read(q, &b); err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(&out, "%s%v\n", b.Buf, b.Gaps)
	}
	for _, name := range []string{"a", "few/x", "few/+", "b/#"} {
		f, _ := group.ParseFilter(name)
		_, _ = fmt.Fprintf(&out, "%s %+v\n", name, l.Policy(f))
		b := store.Batch{Buf: make([]byte, 0, 1<<20)}
		if err := l.Read(store.Query{Select: group.Set{f}}, &b); err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintln(&out, b.Gaps)
	}
	for note, err := range notes(l) {
		_, _ = fmt.Fprintln(&out, note, err)
	}
	return out.String()
}

func notes(l *disk.Log) func(func(string, error) bool) {
	return func(yield func(string, error) bool) {
		err := l.Notes(func(n store.Note) error {
			yield(fmt.Sprint(n), nil)
			return nil
		})
		if err != nil {
			yield("", err)
		}
	}
}

func TestAnImportEqualsTheExportedStore(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	want := fill(t, dir)
	var problems []string
	s, err := disk.Check(dir, func(p string) { problems = append(problems, p) }, nil)
	if err != nil || len(problems) > 0 || s.Messages != 103 || s.Groups != 3 || s.Newest.Seq != 200 {
		t.Errorf("%+v, %v, %q", s, err, problems)
	}
	var dump bytes.Buffer
	if err := disk.Export(dir, &dump, nil); err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(t.TempDir(), "again")
	steps := 0
	if err := disk.Import(t.Context(), again, bytes.NewReader(dump.Bytes()), disk.ImportOptions{Moved: true, Read: func(int, int64) { steps++ }}); err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(dump.Bytes(), []byte("\n")); steps != lines {
		t.Errorf("Read was called %d times for %d lines", steps, lines)
	}
	var second bytes.Buffer
	if err := disk.Export(again, &second, nil); err != nil || !bytes.Equal(dump.Bytes(), second.Bytes()) {
		t.Errorf("the export of the import differs: %v", err)
	}
	s2, err := disk.Check(again, func(p string) { t.Error(p) }, nil)
	if err != nil || s2 != s {
		t.Errorf("%+v, want %+v: %v", s2, s, err)
	}
	l, err := disk.Open(disk.Options{Dir: again})
	if err != nil {
		t.Fatal(err)
	}
	if got := content(t, l); got != want {
		for i, line := range strings.Split(want, "\n") {
			if lines := strings.Split(got, "\n"); i >= len(lines) || lines[i] != line {
				t.Fatalf("line %d is not %q", i, line)
			}
		}
	}
	if _, err := disk.Check(again, func(string) {}, nil); err == nil || !strings.Contains(err.Error(), "another process uses it") {
		t.Errorf("Check of a store in use: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := disk.Import(t.Context(), again, bytes.NewReader(dump.Bytes()), disk.ImportOptions{}); err == nil {
		t.Error("an import replaced another store")
	}
}

func TestInvalidExportsAreRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	fill(t, dir)
	var dump bytes.Buffer
	if err := disk.Export(dir, &dump, nil); err != nil {
		t.Fatal(err)
	}
	good := dump.String()
	lines := strings.SplitAfter(good, "\n")
	for name, bad := range map[string]string{
		"nothing":             "",
		"no JSON":             "hello\n",
		"a history":           lines[len(lines)-3],
		"cut at a line end":   strings.Join(lines[:len(lines)-2], ""),
		"the first line":      lines[0],
		"a line less":         strings.Join(append(slices.Clone(lines[:30]), lines[31:]...), ""),
		"a line more":         good + lines[0],
		"another text":        strings.Replace(good, `"n":1`, `"n":2`, 1),
		"a newer format":      strings.Replace(good, `"format":"1"`, `"format":"2"`, 1),
		"a line cut short":    good[:len(good)-10],
		"a message elsewhere": strings.Replace(good, `"group":"few/x"`, `"group":"nowhere"`, 1),
		"an unknown type":     lines[0] + `{"type":"what"}` + "\n",
		"a changed message":   strings.Replace(good, `"time":"`, `"time": "`, 1),
		"a wrong key":         lines[0] + `{"type":"note","key":"eA=="}` + "\n",
	} {
		to := filepath.Join(t.TempDir(), "to")
		if err := disk.Import(t.Context(), to, strings.NewReader(bad), disk.ImportOptions{}); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(to); err == nil {
			t.Errorf("%s: %s is left", name, to)
		}
	}
	if err := disk.Export(t.TempDir(), &dump, nil); err == nil || !strings.Contains(err.Error(), "no store") {
		t.Errorf("%v", err)
	}
}

// exported creates a store in a folder, and returns its export.
func exported(t *testing.T, dir string) []byte {
	t.Helper()
	fill(t, dir)
	var dump bytes.Buffer
	if err := disk.Export(dir, &dump, nil); err != nil {
		t.Fatal(err)
	}
	return dump.Bytes()
}

// TestARestoredStoreGivesNoIDTwice: the hub may have given out ids after the backup, and listeners may have
// received these messages.
func TestARestoredStoreGivesNoIDTwice(t *testing.T) {
	t.Parallel()
	dir, again := filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), "again")
	dump := exported(t, dir)
	l, err := disk.Open(disk.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	_, newest := l.Bounds()
	lost, err := say(l, "lost with the old store")
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	if err := disk.Import(t.Context(), again, bytes.NewReader(dump), disk.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	if s, err := disk.Check(again, func(p string) { t.Error(p) }, nil); err != nil || s.Newest != newest {
		t.Errorf("%+v, %v", s, err)
	}
	if l, err = disk.Open(disk.Options{Dir: again}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	id, err := say(l, "new")
	if err != nil || id.Epoch != lost.Epoch || id.Seq <= lost.Seq+1000 {
		t.Errorf("the next id is %v, and %v was lost: %v", id, lost, err)
	}
	b := store.Batch{Buf: make([]byte, 0, 1<<20)}
	a, _ := group.ParseFilter("a")
	if err := l.Read(store.Query{Select: group.Set{a}, After: newest.Seq}, &b); err != nil {
		t.Fatal(err)
	}
	if len(b.Gaps) != 1 || len(b.Frames) != 1 {
		t.Errorf("gaps %v and %d messages after the backup", b.Gaps, len(b.Frames))
	}
}

// TestAnImportLeavesOtherFilesAlone: files, links and the permissions of folders stay unchanged.
func TestAnImportLeavesOtherFilesAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dump := exported(t, filepath.Join(dir, "store"))
	file, empty, link := filepath.Join(dir, "file"), filepath.Join(dir, "empty"), filepath.Join(dir, "link")
	busy := filepath.Join(dir, "busy")
	if err := errors.Join(os.WriteFile(file, []byte("precious"), 0o600), os.MkdirAll(filepath.Join(busy, "importing"), 0o700),
		os.Mkdir(empty, 0o750), os.Symlink(empty, link)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{file: "is a file", busy: "another import", filepath.Join(dir, "store"): "is not empty"} {
		err := disk.Import(t.Context(), path, bytes.NewReader(dump), disk.ImportOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("into %s: %v", path, err)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file has %q: %v", b, err)
	}
	if err := disk.Import(t.Context(), link, bytes.NewReader(dump[:len(dump)/2]), disk.ImportOptions{}); err == nil {
		t.Error("half an export was imported")
	}
	if err := disk.Import(t.Context(), link, bytes.NewReader(dump), disk.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(link)
	if err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v: %v", info, err)
	}
	if info, err = os.Stat(empty); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("the folder is %v: %v", info, err)
	}
	if _, err := disk.Check(empty, func(p string) { t.Error(p) }, nil); err != nil {
		t.Error(err)
	}
}

// TestCheckAndExportWriteNothing even to a store that was not closed.
func TestCheckAndExportWriteNothing(t *testing.T) {
	t.Parallel()
	mem, dir := vfs.NewCrashableMem(), filepath.Join(t.TempDir(), "store")
	l, err := disk.Open(powerOptions(mem, disk.Always))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	feed(t, l, newRecord(), 20)
	if _, err := vfs.Clone(mem.CrashClone(vfs.CrashCloneCfg{}), vfs.Default, "store", dir); err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	s, err := disk.Check(dir, func(p string) { t.Error(p) }, nil)
	if err != nil || s.Messages != 20 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := disk.Export(dir, io.Discard, nil); err != nil {
		t.Error(err)
	}
	if after := files(t, dir); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// files returns the names and checksums of the files in a folder.
func files(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		_, _ = fmt.Fprintf(&out, "%s %x\n", path, sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestALossIsStillAGapAfterAnExport exports a store whose log is damaged. The lines of the export do not mention
// the loss.
func TestALossIsStillAGapAfterAnExport(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	store1, store2 := filepath.Join(dir, "1"), filepath.Join(dir, "2")
	l, err := disk.Open(disk.Options{Dir: store1})
	if err != nil {
		t.Fatal(err)
	}
	r := newRecord()
	feed(t, l, r, 30)
	if err := os.CopyFS(store2, os.DirFS(store1)); err != nil { // like the folder after a kill
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(store2, "log", "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	log := logs[len(logs)-1]
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1000] ^= 1
	if err := os.WriteFile(log, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var dump bytes.Buffer
	if err := disk.Export(store2, &dump, nil); err != nil {
		t.Fatal(err)
	}
	store3 := filepath.Join(dir, "3")
	if err := disk.Import(t.Context(), store3, &dump, disk.ImportOptions{Moved: true}); err != nil {
		t.Fatal(err)
	}
	if l, err = disk.Open(disk.Options{Dir: store3}); err != nil {
		t.Fatal(err)
	}
	got, gaps, err := all(l, "#")
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	if len(got) == 30 {
		t.Fatal("nothing is missing: the test proves nothing")
	}
	r.judge(got, func(id string) bool { return covered(id, gaps) })
	r.verdict(t)
}

// TestAnInterruptedImportLeavesNothing interrupts an import while it verifies the store.
func TestAnInterruptedImportLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	fill(t, filepath.Join(dir, "from"))
	var dump bytes.Buffer
	if err := disk.Export(filepath.Join(dir, "from"), &dump, nil); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "to")
	ctx, cancel := context.WithCancel(t.Context())
	o := disk.ImportOptions{Verified: func(_ int, all int64) {
		if all == 0 {
			t.Error("Verified got no total")
		}
		cancel()
	}}
	if err := disk.Import(ctx, to, bytes.NewReader(dump.Bytes()), o); !errors.Is(err, context.Canceled) {
		t.Errorf("import: %v", err)
	}
	if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of the import exists: %v", err)
	}
}

// TestImportedTimesNeverFall even if the clock was set back before the export.
func TestImportedTimesNeverFall(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	path := filepath.Join(dir, "0")
	var want store.Seq
	for life := range 2 {
		l, err := disk.Open(disk.Options{Dir: path})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		for i := range 40 {
			m := store.Message{Group: "a", Time: now.Add(-time.Duration(1+i/20) * time.Hour), Msg: []byte("1")}
			if life > 0 {
				break
			}
			if _, err := l.Append(t.Context(), []store.Entry{m.Entry(nil)}); err != nil {
				t.Fatal(err)
			}
		}
		pos, err := l.Find(filtersOf("a"), store.Start{Since: now.Add(-61 * time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		if life == 0 {
			want = pos
		} else if pos != want || want > 0 {
			t.Errorf("the position was %d before the import and is %d now", want, pos)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		var dump bytes.Buffer
		if err := disk.Export(path, &dump, nil); err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(dir, fmt.Sprint(life+1))
		if err := disk.Import(t.Context(), path, &dump, disk.ImportOptions{Moved: true}); err != nil {
			t.Fatal(err)
		}
	}
}
