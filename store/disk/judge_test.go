package disk_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// record has the messages that writers sent to a log over all its lives, and those that were read.
type record struct {
	mu    sync.Mutex
	sent  map[string]bool   // texts passed to Append
	acked map[string]string // id by text
	is    map[string]string // text by id, from writers and readers
	gone  map[string]bool   // texts that a policy may have evicted
	wrong []string
}

func newRecord() *record {
	return &record{sent: map[string]bool{}, acked: map[string]string{}, is: map[string]string{}, gone: map[string]bool{}}
}

func (r *record) errorf(format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

// send notes that a text is about to be appended.
func (r *record) send(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sent[text] {
		r.errorf("%q is sent twice: the test is wrong", text)
	}
	r.sent[text] = true
}

// ack notes that an Append has returned.
func (r *record) ack(id, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.acked[text]; ok {
		r.errorf("%q was acknowledged as %s and %s", text, old, id)
	}
	r.acked[text] = id
	r.names(id, text)
}

// names records the text of an id.
func (r *record) names(id, text string) {
	if old, ok := r.is[id]; ok && old != text {
		r.errorf("%s names %q and %q", id, old, text)
	}
	r.is[id] = text
}

// copy returns the record as it is now.
func (r *record) copy() *record {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := newRecord()
	for text := range r.sent {
		c.sent[text] = true
	}
	for text, id := range r.acked {
		c.acked[text] = id
	}
	for id, text := range r.is {
		c.is[id] = text
	}
	return c
}

// held is the id and text of a message that was read.
type held struct{ id, text string }

// judge compares what a log holds after a crash with the record. An acknowledged
// message may be missing only if lossy returns true for its id.
func (r *record) judge(got []held, lossy func(id string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	there, last := map[string]string{}, store.Seq(0)
	for _, m := range got {
		id, err := store.ParseID(m.id)
		if err != nil || id.Seq <= last {
			r.errorf("%s is out of order after %d: %v", m.id, last, err)
		}
		last = id.Seq
		if old, ok := there[m.text]; ok {
			r.errorf("%q was read twice, as %s and %s", m.text, old, m.id)
		}
		there[m.text] = m.id
		if !r.sent[m.text] {
			r.errorf("%s is %.50q, which was never sent", m.id, m.text)
		}
		r.names(m.id, m.text)
	}
	for text, id := range r.acked {
		switch now, ok := there[text]; {
		case ok && now != id:
			r.errorf("%q was %s and is %s", text, id, now)
		case !ok && !r.gone[text] && !lossy(id):
			r.errorf("%s, %.20q, was acknowledged and is lost", id, text)
		}
	}
}

// never is the lossy function for a log that must lose nothing.
func never(string) bool { return false }

func always(string) bool { return true }

// verdict fails the test if the judge found a fault.
func (r *record) verdict(t testing.TB) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, s := range r.wrong {
		if i == 10 {
			t.Errorf("and %d more", len(r.wrong)-i)
			break
		}
		t.Error(s)
	}
}

// all reads all messages and gaps of a filter from the start of the log.
func all(l store.Log, filter string) (got []held, gaps []store.Gap, err error) {
	f, err := group.ParseFilter(filter)
	if err != nil {
		return nil, nil, err
	}
	q := store.Query{Select: group.Set{f}}
	b := &store.Batch{Buf: make([]byte, 0, 64<<10)}
	_, newest := l.Bounds()
	for q.After < newest.Seq {
		if err := l.Read(q, b); err != nil {
			return got, gaps, err
		}
		for i := range b.Frames {
			f := &b.Frames[i]
			got = append(got, held{strings.Clone(string(f.ID())), string(f.Payload(nil))})
		}
		gaps = append(gaps, b.Gaps...)
		q.After, q.Reported = b.Next, b.Reported
	}
	return got, gaps, nil
}

// TestTheJudgeFindsEachFault passes the judge a good run, and the same run with one fault each.
func TestTheJudgeFindsEachFault(t *testing.T) {
	t.Parallel()
	good := func() (*record, []held) {
		r := newRecord()
		var got []held
		for i := 1; i <= 9; i++ {
			text, id := fmt.Sprint("text ", i), store.ID{Epoch: "e", Seq: store.Seq(i)}.String()
			r.send(text)
			if i != 5 { // its Append is in progress
				r.ack(id, text)
			}
			got = append(got, held{id, text})
		}
		return r, got
	}
	for _, c := range []struct {
		name  string
		seed  func(r *record, got []held) []held
		fault string
	}{
		{"nothing", func(_ *record, got []held) []held { return got }, ""},
		{"one in progress is missing", func(_ *record, got []held) []held { return slices.Delete(got, 4, 5) }, ""},
		{"one is lost", func(_ *record, got []held) []held { return slices.Delete(got, 2, 3) }, "lost"},
		{"the last is lost", func(_ *record, got []held) []held { return got[:8] }, "lost"},
		{"one is read twice", func(_ *record, got []held) []held { return append(got, held{"e-10", "text 3"}) }, "twice"},
		{"two are swapped", func(_ *record, got []held) []held { got[1], got[2] = got[2], got[1]; return got }, "out of order"},
		{"two have each other's text", func(_ *record, got []held) []held {
			got[1].text, got[2].text = got[2].text, got[1].text
			return got
		}, "names"},
		{"one was never sent", func(_ *record, got []held) []held { return append(got, held{"e-10", "text 10"}) }, "never sent"},
		{"one has moved", func(_ *record, got []held) []held { got[8].id = "e-12"; return got }, "and is"},
		{"an id is given again", func(r *record, got []held) []held {
			r.send("text 10")
			r.ack("e-9", "text 10")
			return got
		}, "names"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, got := good()
			r.judge(c.seed(r, got), never)
			if c.fault == "" && len(r.wrong) > 0 || c.fault != "" && !strings.Contains(strings.Join(r.wrong, "\n"), c.fault) {
				t.Errorf("the judge found %q", r.wrong)
			}
		})
	}
}
