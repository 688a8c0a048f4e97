//go:build !windows

package cluster

import (
	"net/http"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/test/cluster/judge"
)

func (b *brokers) willSent() {
	attach(b.T, b.hubs[0], hello{id: "lost", keep: true, will: "lost", soon: true})
	restart := b.kill(0)
	eventually(b.T, "lost", b.ask(1, http.MethodGet, "/v1/history/wills/lost", ""))
	restart()
	b.gone("lost")
	if got := b.history("wills/lost"); !slices.Equal(got, []string{"lost"}) {
		b.Errorf("the wills are %q", got)
	}
}

func (b *brokers) willKept() {
	h := hello{id: "back", keep: true, will: "lost"}
	attach(b.T, b.hubs[0], h)
	restart := b.kill(0)
	d := attach(b.T, b.hubs[1], h)
	if !d.present {
		b.Error("the session is not present")
	}
	restart()
	eventually(b.T, `"streams":1`, b.ask(0, http.MethodGet, "/v1/sessions/"+deviceUID(h.id), ""))
	d.leave()
	b.gone(h.id)
	if got := b.history("wills/back"); len(got) > 0 {
		b.Errorf("the wills are %q", got)
	}
}

// end ends sessions at hub 1 whose hub 0 has been stopped, or killed with the client connected, or that is killed, with all
// others, right after the answer.
func (b *brokers) end() {
	for name, before := range map[string]func(d *device){
		"away": func(d *device) {
			d.leave()
			if err := b.hubs[0].Stop(); err != nil {
				b.Error(err)
			}
		},
		"killed":    func(*device) { b.hubs[0].Kill() },
		"connected": func(*device) {},
	} {
		h := hello{id: "ended " + name, keep: true}
		d := attach(b.T, b.hubs[0], h)
		d.subscribe("ended", 1)
		before(d)
		eventually(b.T, "ended", func() (string, error) { // while hub 0 may be alive and does not answer, this is refused
			answer, err := b.ask(1, http.MethodDelete, "/v1/sessions/"+deviceUID(h.id), "")()
			return answer + "ended", err
		})
		for _, hub := range b.hubs {
			hub.Kill()
		}
		for _, hub := range b.hubs {
			if err := hub.Restart(); err != nil {
				b.Fatal(err)
			}
		}
		for i := range b.hubs {
			if answer, err := b.ask(i, http.MethodGet, "/v1/sessions/"+deviceUID(h.id), "")(); err == nil || !strings.Contains(err.Error(), ": 404 ") {
				b.Errorf("%s: hub %d: %s, %v", name, i, answer, err)
			}
		}
		if d = attach(b.T, b.hubs[2], h); d.present {
			b.Errorf("%s: the session is present", name)
		}
		d.leave()
	}
}

// purged has the documents of sessions removed by somebody else while their clients are here.
func (b *brokers) purged() {
	seen := watch(b.T, "purged", b.hubs[2])
	kept, brief := attach(b.T, b.hubs[0], hello{id: "purged", keep: true, will: "lost"}), attach(b.T, b.hubs[1], hello{id: "purged briefly", will: "lost"})
	kept.subscribe("purged", 1)
	b.stream(func(s jetstream.Stream) {
		if err := s.Purge(b.Context()); err != nil {
			b.Fatal(err)
		}
	})
	brief.subscribe("purged", 1)
	if !seen.until(b.Context(), func(all []judge.Event) bool { return saw(all, "join") == 2 }) {
		b.Error("a client is not present")
	}
	kept.leave()
	brief.leave()
	b.gone("purged")
	b.gone("purged briefly")
}
