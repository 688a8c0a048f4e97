package hub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// maxCommit is the most messages that are stored in one step with the document of a session. A session with
// more memberships than that announces the rest afterwards.
const maxCommit = 900

// commit stores a change of a session: its document, guarded by its version, with the messages that announce
// the change and the last will. It returns the new version.
func (c *cluster) commit(x *session.Change) (version uint64, err error) {
	if c.hub.closing.Load() {
		return 0, session.ErrClosed
	}
	entries, rest, wills := changeMessages(x)
	note := store.Note{Key: sessionNotes + x.UID, Value: x.Document(), Why: string(x.Gone()), Guarded: true, At: store.Seq(x.Version())}
	id, err := c.hub.appendNoted(context.Background(), entries, []store.Note{note})
	var lost []refusal
	for len(entries) > 0 && refused(err, wills > 0) { // first the last will remains, then nothing
		lost = append(lost, refusal{entries[0].Message, err})
		if len(entries) == wills {
			wills = 0
		}
		entries = entries[len(entries)-wills:]
		id, err = c.hub.appendNoted(context.Background(), entries, []store.Note{note})
	}
	switch {
	case errors.Is(err, store.ErrConflict):
		return 0, session.ErrConflict
	case errors.Is(err, store.ErrClosed):
		return 0, session.ErrClosed
	case errors.Is(err, store.ErrTooLarge):
		c.warnTooLarge(x.UID, err)
		return 0, fmt.Errorf("%w (%v)", session.ErrTooLarge, err)
	case errors.Is(err, store.ErrAway):
		return 0, fmt.Errorf("%w: %w", session.ErrNotStored, err)
	case err != nil:
		return 0, err
	}
	for i := range lost {
		c.hub.logLost(lost[i].first, lost[i].why)
	}
	if len(rest) > 0 {
		_, err := c.hub.appendNoted(context.Background(), rest, nil)
		c.hub.logLost(rest[0].Message, err)
	}
	return uint64(id.Seq) + uint64(len(entries)), nil
}

// refusal is why the store has refused messages, and the first of them.
type refusal struct {
	first store.Message
	why   error
}

// changeMessages returns the messages of a change, and those that are stored afterwards. The last entries are wills, one at most.
func changeMessages(x *session.Change) (entries, rest []store.Entry, wills int) {
	now := time.Now()
	var will []store.Entry
	for _, e := range x.Events {
		var m store.Message
		if _, ok := presenceEvents[e.Kind]; ok && announced(e) {
			m = presenceMessage(e)
		} else if e.Kind == session.SendWill {
			m = willMessage(e)
		} else {
			continue
		}
		m.Time = now
		switch entry := m.Entry(nil); {
		case e.Kind == session.SendWill:
			will = append(will, entry)
		case len(entries) < maxCommit:
			entries = append(entries, entry)
		default:
			rest = append(rest, entry)
		}
	}
	return append(entries, will...), rest, len(will)
}

// tooLargeInterval is how long the hub does not log again that a session is too large.
const tooLargeInterval = 10 * time.Minute

// warnTooLarge logs that a session is too large for the log.
func (c *cluster) warnTooLarge(uid string, err error) {
	c.mu.Lock()
	now := time.Now()
	due := c.warned.IsZero() || now.Sub(c.warned) >= tooLargeInterval
	if due {
		c.warned = now
	}
	c.mu.Unlock()
	if due {
		c.hub.opts.Logger.Error("a session is too large for the store: new filters and wills are refused, and memberships without a stream end at once", "uid", uid, "error", err)
	}
}

// refused reports whether the store refused the messages of a change, and may accept its document without them. A last will waits
// for room.
func refused(err error, will bool) bool {
	return errors.Is(err, store.ErrTooManyGroups) || errors.Is(err, store.ErrTooLarge) || errors.Is(err, store.ErrFull) && !will
}

// committed reports a change of a session that this hub has stored.
func (c *cluster) committed(x *session.Change) {
	for _, e := range x.Events {
		switch e.Kind {
		case session.Disconnect:
			c.hub.notifyObserver(e) // first, since the hub may be killed while it waits for the purge
			c.purgeDirectThrough(e.UID, x.Next())
		case session.Connect, session.Reconnect, session.Join, session.Leave:
			c.hub.notifyObserver(e)
		}
	}
}

// purgeDirectThrough purges the messages that were sent to a session that is gone, up to the version of its end. A new session with the uid may have
// begun behind that, and may have got messages: this hub may be late.
func (c *cluster) purgeDirectThrough(uid string, end uint64) {
	c.hub.logPurge(uid, c.log.PurgeThrough(delivery.SessionPrefix+uid, store.ID{Epoch: c.hub.Epoch(), Seq: store.Seq(end)}))
}

// purgeDirect purges the messages that were sent to a session that is gone. It does not retry, because a new
// session with the uid may begin. If it fails, the next start restores the session, lets it end, and
// purges again.
func (h *Hub) purgeDirect(uid string) {
	h.logPurge(uid, h.log.Purge(delivery.SessionPrefix+uid))
}

// logPurge logs that messages to a session could not be purged.
func (h *Hub) logPurge(uid string, err error) {
	if err != nil && !errors.Is(err, store.ErrClosed) && !errors.Is(err, store.ErrFull) {
		h.opts.Logger.Error("purging the messages to a session that is gone failed", "uid", uid, "error", err)
	}
}
