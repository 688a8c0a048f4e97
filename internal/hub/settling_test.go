package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// shown is a message as a program gets it, or as it is in the log.
type shown struct {
	ID, Group, UID, Event string
	Msg                   json.RawMessage
}

func (s shown) String() string {
	return fmt.Sprintf("%s in %s from %q, event %q: %s", s.ID, s.Group, s.UID, s.Event, s.Msg)
}

// stored returns the messages of the groups below g, in the order of the log.
func (n *node) stored() (list []string) {
	f, err := group.ParseFilter("g/#")
	n.rig.must(err)
	b := &store.Batch{Buf: make([]byte, 0, 1<<20)}
	n.rig.must(n.log.Read(store.Query{Select: group.Set{f}}, b))
	for i := range b.Frames {
		var s shown
		n.rig.must(json.Unmarshal(b.Frames[i].Data(), &s))
		list = append(list, s.String())
	}
	return list
}

// TestTheProgramGetsAllMessagesThatAreStored publishes in each way, on a log that often does not say whether it has stored a message. Messages
// with a key are sent again, to both hubs. Each message that is stored is passed to the program of the hub that has stored it, once and in order.
func TestTheProgramGetsAllMessagesThatAreStored(t *testing.T) {
	var programs []*[]Message
	inRig(t, 2, func(r *rig) {
		r.log.Unknown = 500
		uid := session.UID(ann)
		unknown := 0
		for i := range 100 {
			for at, n := range r.hubs {
				p := Publication{Grant: access.Everything, Group: "g/" + fmt.Sprint(i%3), UID: uid, Event: "e", Kind: JSON, Body: fmt.Appendf(nil, "[%d,%d]", at, i)}
				var err error
				switch i % 4 {
				case 0:
					_, err = n.Publish(t.Context(), &p)
				case 1:
					p.Kind, p.Body = Lines, append(p.Body, "\n[2,0]\n"...)
					_, err = n.Publish(t.Context(), &p)
				case 2:
					p.Kind, p.Body, p.Event = Batch, fmt.Appendf(nil, "{\"group\":\"g/x\",\"msg\":%s}\n{\"group\":\"g/y\",\"msg\":[2,1]}\n", p.Body), ""
					_, err = n.PublishBatch(t.Context(), &p)
				case 3:
					drafts := []Draft{{Group: p.Group, Kind: JSON, Data: p.Body}, {Group: "g/x", Kind: JSON, Data: []byte("[2,2]")}}
					var errs []error
					errs, err = n.PublishEach(t.Context(), &Sender{Grant: access.Everything, UID: uid}, drafts, nil)
					err = errors.Join(append(errs, err)...)
				}
				if errors.Is(err, store.ErrUnknownOutcome) {
					unknown++
				} else if err != nil {
					t.Fatal(err)
				}
			}
			for try := 0; ; try++ {
				if _, err := r.hubs[try/2%2].publish("g/keys", fmt.Sprint("key", i), fmt.Sprintf("[2,%d]", i)); err == nil {
					break
				}
			}
		}
		synctest.Wait()

		var all []string
		for at, p := range programs {
			last := store.Seq(0)
			for _, m := range *p {
				id, err := store.ParseID(m.ID)
				r.must(err)
				if id.Seq <= last {
					t.Errorf("hub %d: %s comes after %d", at, m.ID, last)
				}
				last = id.Seq
				if where := m.Data[1] - '0'; where < 2 && int(where) != at {
					t.Errorf("hub %d has told of a message of hub %d", at, where)
				}
				all = append(all, shown{m.ID, m.Group, m.UID, m.Event, m.Data}.String())
			}
		}
		want := r.hubs[0].stored()
		if slices.Sort(all); !slices.Equal(all, slices.Sorted(slices.Values(want))) {
			t.Errorf("the programs got\n%s\nstored are\n%s", strings.Join(all, "\n"), strings.Join(want, "\n"))
		}
		t.Logf("%d messages are stored, the outcome of %d requests was unknown", len(want), unknown)
	}, func(o *Options) {
		got := new([]Message)
		programs = append(programs, got)
		o.Observer = program{o.Observer, func(list []Message) { *got = append(*got, list...) }}
	})
}
