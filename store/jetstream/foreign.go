package jetstream

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// apiCalls is where the servers report each call of their API to the clients of the account.
const apiCalls = "$JS.EVENT.ADVISORY.API"

// purged is a purge of the stream by somebody else.
type purged struct {
	Filter string    // a subject with wildcards; "" for all
	Seq    store.Seq // messages before this one; 0: all
	Keep   uint64    // or all but so many; 0: none
}

// clientName is the name of a hub's connection, by which the others know its purges.
func (l *Log) clientName() string { return "watchbox " + l.opts.Stream + " " + l.opts.Name }

// watchPurges receives the purges that are not made by a hub.
func (l *Log) watchPurges() error {
	l.purges = make(chan purged, 64)
	_, err := l.nc.Subscribe(apiCalls, func(m *nats.Msg) {
		var call struct {
			Client   struct{ Name string }
			Subject  string
			Request  string
			Response string
		}
		if json.Unmarshal(m.Data, &call) != nil || call.Subject != "$JS.API.STREAM.PURGE."+l.opts.Stream ||
			strings.HasPrefix(call.Client.Name, "watchbox "+l.opts.Stream+" ") || strings.Contains(call.Response, `"error"`) {
			return
		}
		var p purged
		if call.Request != "" && json.Unmarshal([]byte(call.Request), &p) != nil {
			p = purged{}
		}
		if p.Seq == 1 { // a hub that starts asks for its permission in this way
			return
		}
		select {
		case l.purges <- p:
		default: // the marks of those before it are still to be written; this one is found out otherwise
		}
	})
	return err
}

// markPurge writes the marks of a purge.
func (j *janitor) markPurge(ctx context.Context, p purged) error {
	j.l.opts.Logger.Warn("messages were purged from the stream, not by a hub", "filter", p.Filter)
	now := time.Now()
	through := j.l.tail.position()
	if p.Seq > 0 {
		through = min(through, p.Seq-1)
	}
	for g := range store.EachGroup(j.l.mem, "") {
		message, retain := subjectMatches(p.Filter, j.l.subjects.message(g.Group, false)), subjectMatches(p.Filter, j.l.subjects.message(g.Group, true))
		if !message && !retain {
			continue
		}
		m := mark{Eviction: memory.Eviction{Group: g.Group, Through: min(through, g.Newest), Time: now, Unknown: true}, Written: now}
		if retain && p.Keep == 0 {
			m.Retained = through
		}
		if err := j.l.mark(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// subjectMatches reports whether a subject with wildcards matches a subject.
func subjectMatches(filter, subject string) bool {
	for filter != "" {
		f, restF, moreF := strings.Cut(filter, ".")
		s, restS, moreS := strings.Cut(subject, ".")
		switch {
		case f == ">":
			return true
		case f != "*" && f != s || moreF != moreS && restF != ">" || moreF && !moreS:
			return false
		case !moreF:
			return true
		}
		filter, subject = restF, restS
	}
	return true
}
