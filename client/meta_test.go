package client_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/watchbox-go/watchbox/client"
)

func TestMetadataIsSentAndReceived(t *testing.T) {
	r := newRig(t)
	got := make(chan client.Message, 10)
	receive := func(m client.Message) { got <- m }
	c, other := r.client(client.OnDirect(receive)), r.client()
	if _, err := c.Join(r.timeout(), "foo", receive); err != nil {
		t.Fatal(err)
	}
	want := func(what string, meta ...[2]string) {
		t.Helper()
		if m := <-got; !slices.Equal(m.Meta, meta) {
			t.Errorf("%s has %q, want %q", what, m.Meta, meta)
		}
	}
	options := []client.PublishOption{client.Meta("B", "2"), client.Meta("Trace-Id", `é "x"`), client.Meta("a", ""), client.Meta("b", "1")}
	if _, err := c.Publish(r.timeout(), "foo", "x", options...); err != nil {
		t.Fatal(err)
	}
	sorted := [][2]string{{"a", ""}, {"b", "2"}, {"b", "1"}, {"trace-id", `é "x"`}}
	want("a message", sorted...)
	if _, err := c.SendTo(r.timeout(), c.UID(), "x", options...); err != nil {
		t.Fatal(err)
	}
	want("a direct message", sorted...)
	exact := [][2]string{{"B", " 2 "}, {"ü", "\t"}, {"a", "1"}, {"B", "1"}}
	if _, _, err := c.PublishBatch(r.timeout(), []client.Draft{{Group: "foo", Msg: "x"}, {Group: "foo", Msg: 1, Meta: exact}}); err != nil {
		t.Fatal(err)
	}
	want("a message without metadata")
	want("a message of a batch", exact...)
	if _, err := other.Join(r.timeout(), "bar", ignore); err != nil {
		t.Fatal(err)
	}
	if err := other.SetWill(r.timeout(), "foo", "gone", 0, client.Meta("B", "2"), client.Meta("a", "1")); err != nil {
		t.Fatal(err)
	}
	kick, err := http.NewRequestWithContext(r.timeout(), http.MethodDelete, r.srv.URL+"/v1/sessions/"+other.UID(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.hub.ServeHTTP(httptest.NewRecorder(), kick)
	want("a will", [2]string{"B", "2"}, [2]string{"a", "1"})
}

// TestMetadataOfConcurrentMessages covers those that are sent together.
func TestMetadataOfConcurrentMessages(t *testing.T) {
	r := newRig(t)
	c := r.client()
	const n = 200
	got := make(chan client.Message, n)
	if _, err := c.Join(r.timeout(), "foo", func(m client.Message) { got <- m }); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := c.Publish(r.timeout(), "foo", i, client.Meta("Z", "last"), client.Meta("N", fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for range n {
		if m := <-got; !slices.Equal(m.Meta, [][2]string{{"n", m.Text()}, {"z", "last"}}) {
			t.Errorf("message %s has %q", m.Text(), m.Meta)
		}
	}
}

func TestMetadataThatCannotBeSentIsRefused(t *testing.T) {
	r := newRig(t)
	c := r.client()
	for _, p := range [][2]string{{"", "x"}, {"a b", "x"}, {"a:", "x"}, {"é", "x"}, {"a", "x\ny"}, {"a", " x"}, {"a", "x\t"}, {"a", "\x01"}, {"a", "\xff"}} {
		if id, err := c.Publish(r.timeout(), "foo", "x", client.Meta(p[0], p[1])); err == nil {
			t.Errorf("%q was published as %s", p, id)
		}
	}
	_, _, err := c.PublishBatch(r.timeout(), []client.Draft{{Group: "foo", Msg: 1, Meta: [][2]string{{"$qos", "0"}}}})
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != http.StatusBadRequest || e.Code != "meta-invalid" {
		t.Errorf("a name of the server's own: %v", err)
	}
}
