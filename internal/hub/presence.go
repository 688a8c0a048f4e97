package hub

import (
	"errors"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// presenceWords are what presence messages call what happens.
var presenceWords = map[session.Kind]string{
	session.Join: "join", session.Leave: "leave", session.Lost: "lost", session.Back: "back", session.Gone: "gone",
}

// announcement is a presence message with the note that belongs to it, if one does.
type announcement struct {
	message store.Message
	notes   []store.Note
}

// announce appends what happens to memberships to the presence groups of their filters. A store that
// outlives the hub notes each membership in the same commit as its join, and drops the note in that of
// its leave or gone: so after a restart the hub knows of everybody whose join was told, and of nobody
// else.
func (h *Hub) announce(events []session.Event) {
	var list []announcement
	for _, e := range events {
		if !strings.HasPrefix(e.Filter.String(), "$") { // that is about who watches others
			list = append(list, announcementOf(e))
		}
	}
	if len(list) == 0 || h.closing.Load() { // all leave, and nobody will read it
		return
	}
	if len(list) > 1 && h.appendAll(list) == nil {
		return
	}
	for i := range list { // one of them may be refused, for want of groups
		h.lostOwn(list[i].message, h.appendAll(list[i:i+1]))
	}
}

func announcementOf(e session.Event) announcement {
	msg := store.AppendQuote([]byte(`{"event":`), presenceWords[e.Kind])
	msg = store.AppendQuote(append(msg, `,"uid":`...), e.UID)
	if e.Reason != "" {
		msg = store.AppendQuote(append(msg, `,"reason":`...), string(e.Reason))
	}
	a := announcement{message: store.Message{Group: presencePrefix + e.Filter.String(), Msg: append(msg, '}')}}
	note := store.Note{Key: memberNotes + e.UID + "/" + e.Filter.String()}
	switch e.Kind {
	case session.Join:
		note.Value = []byte{memberNote}
	case session.Lost, session.Back: // it is still a member
		return a
	}
	a.notes = []store.Note{note}
	return a
}

// appendAll appends announcements next to each other, with their notes.
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

// memberNote is the value of the note of a membership. Its key says all.
const memberNote = 1

var errMemberNote = errors.New("the note of a session's filter is not as it was written")

// readMember reads the note of a membership.
func readMember(n store.Note) (uid string, f group.Filter, err error) {
	uid, filter, ok := strings.Cut(strings.TrimPrefix(n.Key, memberNotes), "/")
	f, err = group.ParseFilter(filter)
	if !ok || err != nil {
		return "", f, errMemberNote
	}
	return uid, f, nil
}
