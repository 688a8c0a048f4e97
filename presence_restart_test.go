package watchbox_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
)

// life is one run of a hub on a data directory. end ends it.
type life struct {
	*program
	end func()
}

// live starts a hub on the data directory.
func live(t *testing.T, dir string, timeout time.Duration) *life {
	t.Helper()
	p, cancel, ran := run(t, nil, watchbox.WithDataDir(dir), watchbox.WithSessionTimeout(timeout))
	return &life{p, func() {
		t.Helper()
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}}
}

func (l *life) at() *place { return at(l.T, strings.TrimPrefix(l.url, "http://")) }

// present returns the uids of the sessions in a group, connected or lost.
func (l *life) present(group string) (uids []string) {
	l.Helper()
	var got struct{ Presence []struct{ UID string } }
	if err := json.Unmarshal([]byte(l.at().wants(200, "GET /v1/presence/"+group, "")), &got); err != nil {
		l.Fatal(err)
	}
	for _, s := range got.Presence {
		uids = append(uids, s.UID)
	}
	return uids
}

const (
	secretOfAnn = "the-secret-of-ann"
	secretOfBob = "the-secret-of-bob"
)

func TestSessionThatDoesNotReturnAfterARestartIsGoneOnce(t *testing.T) {
	dir := t.TempDir()
	l := live(t, dir, time.Hour)
	ann := l.at().listen("/v1/events?group=room&group=hall", secretOfAnn)
	ended := l.at().listen("/v1/groups/room", secretOfBob)
	ended.own(204, "DELETE", "", "")
	left := l.at().listen("/v1/groups/room", "")
	left.own(204, "DELETE", "/groups/room", "")
	for range 2 { // no session is gone before the timeout
		l.end()
		l = live(t, dir, time.Hour)
		if got := l.present("room"); len(got) != 1 || got[0] != ann.uid {
			t.Fatalf("present is %v, want %s", got, ann.uid)
		}
	}
	l.end()
	l = live(t, dir, 200*time.Millisecond)
	watcher := l.at().listen("/v1/groups/$presence/%23?since=all", "")
	groups := map[string]bool{}
	for range 2 {
		m := watcher.message()
		groups[m.Group] = true
		if want := `{"event":"gone","uid":"` + ann.uid + `","reason":"closed"}`; string(m.Msg) != want {
			t.Fatalf("got %s, want %s", m.Msg, want)
		}
	}
	if !groups["$presence/room"] || !groups["$presence/hall"] {
		t.Errorf("it is gone from %v", groups)
	}
	if got := l.present("room"); len(got) > 0 {
		t.Errorf("present is %v", got)
	}
	l.end()
	l = live(t, dir, 200*time.Millisecond)
	if got := l.present("%23"); len(got) > 0 {
		t.Errorf("after one more restart, present is %v", got)
	}
	late := l.at().listen("/v1/groups/room", secretOfAnn) // a session that returns after the timeout joins
	watcher = l.at().listen("/v1/groups/$presence/room?last=10", "")
	if m := watcher.message(); string(m.Msg) != `{"event":"join","uid":"`+late.uid+`"}` {
		t.Errorf("the presence message of a late session is %s", m.Msg)
	}
}

// TestSessionThatReturnsAfterARestartDoesNotJoinAgain also checks that a watcher that resumes by id gets
// each presence message once and no gap.
func TestSessionThatReturnsAfterARestartDoesNotJoinAgain(t *testing.T) {
	dir := t.TempDir()
	l := live(t, dir, time.Hour)
	watcher := l.at().listen("/v1/groups/$presence/room", secretOfBob)
	ann := l.at().listen("/v1/groups/room", secretOfAnn)
	joined := watcher.next()
	if want := `"msg":{"event":"join","uid":"` + ann.uid + `"}`; !strings.Contains(string(joined.Data), want) {
		t.Fatalf("got %s, want %s", joined.Data, want)
	}
	l.end()
	l = live(t, dir, time.Hour)
	watcher = l.at().listen("/v1/groups/$presence/room", secretOfBob, "Last-Event-ID", joined.ID)
	back := l.at().listen("/v1/groups/room", secretOfAnn)
	watcher.gets(`{"event":"back","uid":"` + ann.uid + `","reason":"closed"}`)
	back.own(204, "DELETE", "", "")
	watcher.gets(`{"event":"gone","uid":"` + ann.uid + `","reason":"ended"}`)
	if got := l.present("room"); len(got) > 0 {
		t.Errorf("present is %v", got)
	}
}
