package client_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/client"
)

// expiring is an authorization whose tokens are the Unix times in milliseconds at which they expire.
type expiring struct {
	mu      sync.Mutex
	renewed map[string]bool // tokens received by PUT /v1/sessions/{uid}/token
}

func (e *expiring) authorize(r *http.Request) (*watchbox.Grant, error) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	end, err := strconv.ParseInt(token, 10, 64)
	if err != nil {
		return nil, watchbox.ErrUnauthorized
	}
	if strings.HasSuffix(r.URL.Path, "/token") {
		e.mu.Lock()
		e.renewed[token] = true
		e.mu.Unlock()
	}
	return &watchbox.Grant{Subject: "anna", Subscribe: []string{"a"}, Publish: []string{"a"}, Expires: time.UnixMilli(end)}, nil
}

func (e *expiring) renewals() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.renewed)
}

func TestOpenStreamGetsNewTokensAndLosesNoMessage(t *testing.T) {
	e := &expiring{renewed: map[string]bool{}}
	r := newRig(t, watchbox.WithAuthorize(e.authorize))
	c := r.client(client.OnGap(func(g client.Gap) { t.Errorf("%+v", g) }),
		client.WithToken(func(context.Context) (string, error) {
			return fmt.Sprint(time.Now().Add(4 * time.Second).UnixMilli()), nil
		}))
	_, h := r.join(c, "a")
	tick, timeout := time.NewTicker(10*time.Millisecond), time.After(testTimeout)
	defer tick.Stop()
	var want []string
	for i := 0; e.renewals() < 2; i++ {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("only %d tokens reached the stream", e.renewals())
		}
		r.publish("a", fmt.Sprint(i))
		want = append(want, fmt.Sprint(i))
		h.want(want...)
	}
}

// The hub ends the streams shortly before the common expiry, and they return while messages are published.
func TestClientsWhoseTokensExpireAtOnceLoseNoMessage(t *testing.T) {
	const clients = 100
	e := &expiring{renewed: map[string]bool{}}
	r := newRig(t, watchbox.WithAuthorize(e.authorize))
	long := fmt.Sprint(time.Now().Add(time.Hour).UnixMilli())
	var returned atomic.Int64
	var recorders []*recorder
	var secrets []string
	for i := range clients {
		secret := fmt.Sprintf("the-secret-of-client-%d", i)
		c := r.client(client.WithSecret(secret), client.WithToken(func(context.Context) (string, error) { return long, nil }),
			client.OnReconnect(func() { returned.Add(1) }), client.OnGap(func(g client.Gap) { t.Errorf("%+v", g) }))
		_, h := r.join(c, "a")
		recorders, secrets = append(recorders, h), append(secrets, secret+" "+c.UID())
	}
	renewAll := func(token string) {
		for _, x := range secrets {
			secret, uid, _ := strings.Cut(x, " ")
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+r.addr+"/v1/sessions/"+uid+"/token", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Watchbox-Session", secret)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusNoContent {
				t.Fatal(resp.Status)
			}
		}
	}
	begun := time.Now()
	renewAll(long)
	renewAll(fmt.Sprint(time.Now().Add(3*time.Second + 20*time.Since(begun)).UnixMilli())) // enough also for a slow machine
	tick, timeout := time.NewTicker(20*time.Millisecond), time.After(testTimeout)
	defer tick.Stop()
	var want []string
	for i := 0; returned.Load() < clients; i++ {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("only %d of %d clients returned", returned.Load(), clients)
		}
		r.publish("a", fmt.Sprint(i))
		want = append(want, fmt.Sprint(i))
	}
	for _, h := range recorders {
		h.want(want...)
	}
}
