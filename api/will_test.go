package api_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
)

// setWill sets a session's will.
func (s *server) setWill(st *stream, will string) {
	s.Helper()
	if err := theContract.fits("Will", []byte(will)); err != nil {
		s.Errorf("the will %s does not conform to openapi.yaml: %v", will, err)
	}
	s.wants(204, "", "PUT /v1/sessions/"+st.uid+"/will", will, append(st.proof(), "Content-Type", "application/json")...)
}

func TestWillWithRetainEventTTLAndEncoding(t *testing.T) {
	s := serve(t)
	for i, c := range []struct{ will, event, want string }{
		{`{"group":"status","msg":"offline","retain":true}`, "", `"retain":true,"msg":"offline"}`},
		{`{"group":"status","msg":"offline","event":"status"}`, "status", `"msg":"offline"}`},
		{`{"group":"status","msg":"/w==","encoding":"base64"}`, "", `"encoding":"base64","msg":"/w=="}`},
		{`{"group":"status","msg":null,"ttl":"1h","retain":false}`, "", `Z","msg":null}`},
	} {
		watcher, st := s.listen("/v1/groups/status?last=0"), s.listen("/v1/groups/foo")
		s.setWill(st, c.will)
		s.wants(204, "", "DELETE /v1/sessions/"+st.uid, "") // a kick
		name, _, data := parseBlock(watcher.block())
		if name != c.event || !strings.HasSuffix(data, c.want) || strings.Contains(data, `"expires"`) != (i == 3) || !strings.Contains(data, st.uid) {
			t.Errorf("%s is sent as %s %s", c.will, name, data)
		}
	}
	if got := s.retained("status").bodies(); got != `"offline"` {
		t.Errorf("retained is %s", got)
	}
}

// TestOnlineAndOffline runs the recipe of docs/SESSIONS.md: a later reader gets the current status.
func TestOnlineAndOffline(t *testing.T) {
	s := serve(t)
	status := func() string { return s.retained("status/sensor").bodies() }
	first := s.listen("/v1/groups/foo")
	s.setWill(first, `{"group":"status/sensor","msg":"offline","retain":true}`)
	s.post("/v1/groups/status/sensor?retain=true", "online")
	if got := status(); got != `"online"` {
		t.Errorf("the status is %s", got)
	}
	s.wants(204, "", "DELETE /v1/sessions/"+first.uid, "")
	if got := status(); got != `"offline"` {
		t.Errorf("the status is %s", got)
	}
	st := s.listen("/v1/groups/foo")
	s.setWill(st, `{"group":"status/sensor","msg":"","retain":true}`)
	s.post("/v1/groups/status/sensor?retain=true", "online")
	s.wants(204, "", "DELETE /v1/sessions/"+st.uid, "")
	if got := status(); got != "" {
		t.Errorf("an empty will leaves %s", got)
	}
}

func TestWillWithAllMembersSurvivesRestart(t *testing.T) {
	notWithNATS(t)
	dir := watchbox.WithDataDir(t.TempDir())
	s := serve(t, dir)
	st := s.listen("/v1/groups/foo")
	s.setWill(st, `{"group":"status","msg":"offline","retain":true,"event":"status","ttl":"24h"}`)
	s = s.again(dir, watchbox.WithSessionTimeout(100*time.Millisecond))
	eventually(t, "the will is retained", func() bool {
		list := s.retained("status").Messages
		return len(list) == 1 && list[0].Event == "status" && string(list[0].Msg) == `"offline"`
	})
	if a := s.wants(200, "", "GET /v1/retained/status", ""); !strings.Contains(a.body, `"expires":"`) {
		t.Errorf("it is sent as %s", a.body)
	}
}

// TestWillOfAnOlderVersionIsPublished: a store may contain wills that were written before wills had
// retain, ttl and encoding.
func TestWillOfAnOlderVersionIsPublished(t *testing.T) {
	notWithNATS(t)
	dir := t.TempDir()
	log, err := disk.Open(disk.Options{Dir: dir, MaxMemory: 64 << 20, MaxGroups: 100})
	if err != nil {
		t.Fatal(err)
	}
	uid := session.UID("a-secret-of-the-client")
	note := store.Note{Key: "will/" + uid, Value: []byte(`{"Group":"status","Event":"status","Msg":"Im9mZmxpbmUi","Base64":false,"Delay":1000000}`)}
	_, err = log.AppendNoted(t.Context(), nil, note)
	if err := errors.Join(err, log.Close()); err != nil {
		t.Fatal(err)
	}
	s := serve(t, watchbox.WithDataDir(dir))
	eventually(t, "the will is sent", func() bool { return s.history("status").bodies() == `"offline"` })
	if a := s.wants(200, "", "GET /v1/history/status", ""); strings.Contains(a.body, "retain") || strings.Contains(a.body, "expires") || !strings.Contains(a.body, fmt.Sprintf(`"uid":%q`, uid)) {
		t.Errorf("it is sent as %s", a.body)
	}
}
