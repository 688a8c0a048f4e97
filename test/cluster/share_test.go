//go:build !windows

package cluster

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// members are members of a shared subscription, one at each hub, that take 3 messages at a time.
type members struct {
	*brokers
	topic string

	mu    sync.Mutex // guards what follows
	list  [3]*member
	moved chan struct{} // closed and replaced when a message arrives
}

// member is a member, and what it does.
type member struct {
	*device
	prompt bool // it acknowledges what comes
	got    []*packets.Publish
}

func (b *brokers) members(prompt bool) *members {
	m := &members{brokers: b, topic: "shared/" + deviceUID(b.Name()), moved: make(chan struct{})}
	var reading sync.WaitGroup
	for i := range m.list {
		d := attach(b.T, b.hubs[i], hello{id: fmt.Sprint(m.topic, i), window: 3})
		d.subscribe("$share/workers/"+m.topic, 1)
		w := &member{device: d, prompt: prompt}
		m.list[i] = w
		reading.Go(func() { m.read(w) })
	}
	b.Cleanup(func() {
		for _, w := range m.list {
			w.cut()
		}
		reading.Wait()
	})
	return m
}

// read records what a member gets until its connection ends.
func (m *members) read(w *member) {
	for _, p := range w.others {
		m.record(w, p)
	}
	for {
		p, err := packets.ReadPacket(w.conn)
		if err != nil {
			return
		}
		m.record(w, p)
	}
}

func (m *members) record(w *member, p *packets.ControlPacket) {
	publish, ok := p.Content.(*packets.Publish)
	if !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	w.got = append(w.got, publish)
	if w.prompt {
		puback(w, publish)
	}
	close(m.moved)
	m.moved = make(chan struct{})
}

func puback(w *member, p *packets.Publish) {
	_, _ = (&packets.Puback{PacketID: p.PacketID, Properties: &packets.Properties{}}).WriteTo(w.conn) // an error: the hub was killed
}

// acknowledge has a member acknowledge the first n messages that it has got, and then what comes.
func (m *members) acknowledge(i, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.list[i]
	for _, p := range w.got[:n] {
		puback(w, p)
	}
	w.prompt = true
}

func (m *members) post(texts ...string) {
	m.Helper()
	for i, text := range texts {
		m.must(m.ask(i%3, http.MethodPost, "/v1/groups/"+m.topic, text))
	}
}

// texts returns what a member has got. The mutex is held.
func (w *member) texts() (texts []string) {
	for _, p := range w.got {
		texts = append(texts, string(p.Payload))
	}
	return texts
}

// until waits until what all members have got is enough.
func (m *members) until(what string, enough func() bool) {
	m.Helper()
	for late := time.After(patience); ; {
		m.mu.Lock()
		ok, moved := enough(), m.moved
		m.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-moved:
		case <-late:
			m.mu.Lock()
			defer m.mu.Unlock()
			m.Fatalf("%s: the members got %q, %q and %q", what, m.list[0].texts(), m.list[1].texts(), m.list[2].texts())
		}
	}
}

func TestSharedSubscriptionsAtSeveralHubs(t *testing.T) {
	t.Parallel()
	eachCluster(t, func(b *brokers) {
		b.sub("each message goes to one member", (*brokers).shareOut)
		for i, name := range []string{"the hub with the position", "another hub"} {
			for fault, end := range map[string]func(*members){
				"is killed":  func(m *members) { m.hubs[i].Kill() },
				"is stopped": func(m *members) { _ = m.hubs[i].Stop() }, // its status is not what is tested
				"has no members any more": func(m *members) {
					m.mu.Lock()
					defer m.mu.Unlock()
					m.list[i].cut()
				},
			} {
				b.sub(name+" "+fault, func(b *brokers) { b.loseMember(i, end) })
			}
		}
	})
}

func (b *brokers) shareOut() {
	const n = 300
	m := b.members(true)
	want := numbered("m", 1, n)
	m.post(want...)
	var all []string
	m.until("not all messages have arrived", func() bool {
		all = slices.Concat(m.list[0].texts(), m.list[1].texts(), m.list[2].texts())
		return len(all) >= n
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	slices.Sort(all)
	slices.Sort(want)
	if !slices.Equal(all, want) {
		b.Errorf("the members got %q", all)
	}
	for i, w := range m.list {
		if len(w.texts()) == 0 {
			b.Errorf("the member at hub %d got nothing", i)
		}
	}
}

// loseMember has each member get three messages. One member is lost with its hub. The others acknowledge one message, and keep
// two.
func (b *brokers) loseMember(lost int, end func(*members)) {
	m := b.members(false)
	m.post(numbered("m", 1, 9)...)
	m.until("not each member has three messages", func() bool {
		return !slices.ContainsFunc(m.list[:], func(w *member) bool { return len(w.got) < 3 })
	})
	for _, hub := range b.hubs {
		d := attach(b.T, hub, hello{id: "flush"}) // what the hub knows of positions is written
		d.leave()
	}
	end(m)
	for i := range m.list {
		if i != lost {
			m.acknowledge(i, 1)
		}
	}
	late := numbered("late", 1, 6)
	for _, text := range late {
		m.must(m.ask((lost+1)%3, http.MethodPost, "/v1/groups/"+m.topic, text))
	}
	others := slices.Delete(slices.Clone(m.list[:]), lost, lost+1)
	var all []string
	m.until("not all messages have arrived", func() bool {
		all = nil
		for _, w := range others {
			all = append(all, w.texts()...)
		}
		return !slices.ContainsFunc(append(late, m.list[lost].texts()...), func(text string) bool { return !slices.Contains(all, text) })
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range others {
		for _, held := range w.texts()[1:3] {
			if n := len(all) - len(slices.DeleteFunc(slices.Clone(all), func(text string) bool { return text == held })); n != 1 {
				b.Errorf("%s, which a member has, was sent %d times", held, n)
			}
		}
	}
	if b.hubIsDown(lost) {
		if err := b.hubs[lost].Restart(); err != nil {
			b.Fatal(err)
		}
	}
}
