package hub

import (
	"errors"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// presenceEvents maps the kinds of session events to the names that presence messages use.
var presenceEvents = map[session.Kind]string{
	session.Join: "join", session.Leave: "leave", session.Lost: "lost", session.Back: "back", session.Gone: "gone",
}

// announcement is a presence message and the note to store with it, if any.
type announcement struct {
	message store.Message
	notes   []store.Note
}

// announce appends membership events to the presence groups of their filters. A persistent store writes
// the note of a membership in the same commit as its join, and removes it in the same commit as its
// leave or gone. So after a restart the hub knows exactly the memberships whose join was announced and
// whose end was not.
func (h *Hub) announce(events []session.Event) {
	var list []announcement
	for _, e := range events {
		if announced(e) {
			list = append(list, announcementOf(e))
		}
	}
	if len(list) == 0 || h.closing.Load() { // on shutdown every session leaves, and no stream would read it
		return
	}
	if len(list) > 1 && h.appendAll(list) == nil {
		return
	}
	for i := range list { // one by one: the store may refuse only some, for too many groups
		h.logLost(list[i].message, h.appendAll(list[i:i+1]))
	}
}

// announced reports whether a membership is announced. Those of the server's own groups are not.
func announced(e session.Event) bool { return !strings.HasPrefix(e.Filter.String(), "$") }

// presenceMessage returns the message that announces a membership event.
func presenceMessage(e session.Event) store.Message {
	msg := store.AppendQuote([]byte(`{"event":`), presenceEvents[e.Kind])
	msg = store.AppendQuote(append(msg, `,"uid":`...), e.UID)
	if e.Reason != "" {
		msg = store.AppendQuote(append(msg, `,"reason":`...), string(e.Reason))
	}
	return store.Message{Group: presencePrefix + e.Filter.String(), Msg: append(msg, '}')}
}

func announcementOf(e session.Event) announcement {
	a := announcement{message: presenceMessage(e)}
	note := store.Note{Key: memberNotes + e.UID + "/" + e.Filter.String()}
	switch e.Kind {
	case session.Join:
		note.Value = append([]byte{memberNote}, e.Subject...)
	case session.Lost, session.Back: // it is still a member
		return a
	}
	a.notes = []store.Note{note}
	return a
}

// appendAll appends announcements and their notes in one commit.
func (h *Hub) appendAll(list []announcement) error {
	var entries []store.Entry
	var notes []store.Note
	now := time.Now()
	for i := range list {
		list[i].message.Time = now
		entries = append(entries, list[i].message.Entry(nil))
		notes = append(notes, list[i].notes...)
	}
	return h.appendEntries(entries, notes)
}

// memberNote begins the value of a membership's note. The subject of the session follows it. The key holds
// the uid and the filter.
const memberNote = 1

var errMemberNote = errors.New("the stored note of a session's filter is corrupt")

// readMember parses the note of a membership.
func readMember(n store.Note) (uid string, f group.Filter, err error) {
	uid, filter, ok := strings.Cut(strings.TrimPrefix(n.Key, memberNotes), "/")
	f, err = group.ParseFilter(filter)
	if !ok || err != nil {
		return "", f, errMemberNote
	}
	return uid, f, nil
}
