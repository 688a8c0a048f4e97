package watchbox_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/watchbox-go/watchbox"
)

// exampleSecret is the session secret of the client of the examples.
const exampleSecret = "of-16-characters-or-more"

// exampleCall makes a request as the client of the examples and returns status and body.
func exampleCall(method, url, body string) string {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	r.Header.Set("Watchbox-Session", exampleSecret)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d %s", resp.StatusCode, b)
}

// exampleListen opens a stream as the client of the examples and returns when it is open. next returns the
// payload of the next message; hangUp closes the stream.
func exampleListen(url string) (next func() string, hangUp func()) {
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"?format=raw", nil)
	if err != nil {
		log.Fatal(err)
	}
	r.Header.Set("Watchbox-Session", exampleSecret)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		log.Fatal(err)
	}
	lines := bufio.NewScanner(resp.Body)
	next = func() string {
		for lines.Scan() {
			if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return text
			}
		}
		return ""
	}
	next() // the session
	return next, func() {
		cancel()
		_ = resp.Body.Close()
	}
}

func Example() {
	hub, err := watchbox.New()
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()

	r := chi.NewRouter()
	r.Mount("/hub", hub)
	srv := httptest.NewServer(r)
	defer srv.Close()

	next, hangUp := exampleListen(srv.URL + "/hub/v1/groups/home/kitchen")
	defer hangUp()
	if _, err := hub.Publish(context.Background(), "home/kitchen", "the kettle is on"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(next())
	// Output: the kettle is on
}

func ExampleNew() {
	hub, err := watchbox.New(
		watchbox.WithMaxMemory(64<<20),
		watchbox.WithPolicy("chat/#", watchbox.Policy{MaxMessages: 100, MaxAge: 24 * time.Hour}),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	_, err = hub.Publish(context.Background(), "chat/lobby", "hello")
	fmt.Println(err)
	// Output: <nil>
}

func ExampleWithProfile() {
	hub, err := watchbox.New(watchbox.WithProfile(watchbox.ProfileMemory))
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	_, err = hub.Publish(context.Background(), "home/temp", 21.5)
	fmt.Println(err)
	// Output: <nil>
}

func ExampleHub_ServeHTTP() {
	hub, err := watchbox.New()
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()

	mux := http.NewServeMux()
	mux.Handle("/hub/", http.StripPrefix("/hub", hub))
	srv := httptest.NewServer(mux)
	defer srv.Close()

	fmt.Println(exampleCall("POST", srv.URL+"/hub/v1/groups/Not/#", "x")[:3])
	fmt.Println(exampleCall("POST", srv.URL+"/hub/v1/groups/home", "x")[:3])
	// Output:
	// 400
	// 201
}

func ExampleHub_Publish() {
	hub, err := watchbox.New()
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	ctx := context.Background()
	for _, v := range []any{"text", []byte{0xff}, map[string]int{"celsius": 93}} {
		if _, err := hub.Publish(ctx, "home/kitchen", v); err != nil {
			log.Fatal(err)
		}
	}
	_, err = hub.Publish(ctx, "home/+", "to whom?")
	fmt.Println(err != nil)
	// Output: true
}

func ExampleHub_PublishBatch() {
	hub, err := watchbox.New()
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	_, _, err = hub.PublishBatch(context.Background(), []watchbox.Draft{
		{Group: "orders/17", Msg: "paid", Retain: true},
		{Group: "ledger", Msg: map[string]int{"order": 17, "cents": 995}},
	})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleHub_Retained() {
	hub, err := watchbox.New()
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	ctx := context.Background()
	if _, _, err := hub.PublishBatch(ctx, []watchbox.Draft{
		{Group: "home/kitchen/temp", Msg: 21.5, Retain: true},
		{Group: "home/cellar/temp", Msg: 12, Retain: true},
	}); err != nil {
		log.Fatal(err)
	}
	for m, err := range hub.Retained(ctx, "home/+/temp") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(m.Group, m.Text())
	}
	// Output:
	// home/kitchen/temp 21.5
	// home/cellar/temp 12
}

func ExampleHub_Send() {
	hub, err := watchbox.New()
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	hub.OnConnect(func(s watchbox.Session) {
		if _, err := hub.Send(context.Background(), s.UID, "welcome"); err != nil {
			log.Print(err)
		}
	})
	srv := httptest.NewServer(hub)
	defer srv.Close()
	next, hangUp := exampleListen(srv.URL + "/v1/groups/home")
	defer hangUp()
	fmt.Println(next())
	// Output: welcome
}

func ExampleHub_Run() {
	listening := make(chan net.Addr, 1)
	hub, err := watchbox.New(watchbox.WithListening(func(a net.Addr) { listening <- a }))
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		fmt.Println(exampleCall("GET", "http://"+(<-listening).String()+"/healthz", "")[:3])
		stop()
	}()
	if err := hub.Run(ctx, "127.0.0.1:0", nil); err != nil {
		log.Fatal(err)
	}
	// Output: 200
}

func ExampleHub_Close() {
	hub, err := watchbox.New()
	if err != nil {
		log.Fatal(err)
	}
	srv := httptest.NewServer(hub)
	defer srv.Close()
	next, hangUp := exampleListen(srv.URL + "/v1/groups/home")
	defer hangUp()
	if err := hub.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(next())
	_, err = hub.Publish(context.Background(), "home", "too late")
	fmt.Println(err)
	// Output:
	// {"reason":"shutdown"}
	// watchbox: publish to "home": the hub is shutting down
}

func ExampleHub_OnMessage() {
	hub, err := watchbox.New()
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	done := make(chan bool)
	hub.OnMessage(func(m watchbox.Message) {
		defer close(done)
		var reading struct{ Celsius int }
		if err := m.Decode(&reading); err != nil {
			log.Print(err)
		}
		fmt.Println(m.Group, reading.Celsius)
	})
	srv := httptest.NewServer(hub)
	defer srv.Close()
	exampleCall("POST", srv.URL+"/v1/groups/home/kitchen", `{"celsius":93}`)
	<-done
	// Output: home/kitchen 93
}

func ExampleMessage_Reply() {
	hub, err := watchbox.New()
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	hub.OnMessage(func(m watchbox.Message) {
		if _, err := m.Reply(context.Background(), "and a good day to you"); err != nil {
			log.Print(err)
		}
	})
	srv := httptest.NewServer(hub)
	defer srv.Close()
	next, hangUp := exampleListen(srv.URL + "/v1/groups/home")
	defer hangUp()
	exampleCall("POST", srv.URL+"/v1/server", "good day")
	fmt.Println(next())
	// Output: and a good day to you
}

func ExampleHub_BeforePublish() {
	hub, err := watchbox.New()
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	hub.BeforePublish(func(_ context.Context, m *watchbox.Message) error {
		if m.UID == "" {
			return errors.New("say who you are")
		}
		return m.Set(strings.ToUpper(m.Text()))
	})
	srv := httptest.NewServer(hub)
	defer srv.Close()
	next, hangUp := exampleListen(srv.URL + "/v1/groups/home")
	defer hangUp()
	resp, err := http.Post(srv.URL+"/v1/groups/home", "text/plain", strings.NewReader("guess who"))
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.StatusCode)
	exampleCall("POST", srv.URL+"/v1/groups/home", "it is me")
	fmt.Println(next())
	// Output:
	// 403
	// IT IS ME
}

func ExampleHub_OnConnect() {
	hub, err := watchbox.New()
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	done := make(chan bool)
	hub.OnConnect(func(s watchbox.Session) {
		fmt.Println("here is a UUID of", len(s.UID), "characters")
		close(done)
	})
	srv := httptest.NewServer(hub)
	defer srv.Close()
	_, hangUp := exampleListen(srv.URL + "/v1/groups/home")
	defer hangUp()
	<-done
	// Output: here is a UUID of 36 characters
}

func ExampleHub_OnJoin() {
	hub, err := watchbox.New()
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	done := make(chan bool)
	hub.OnJoin(func(_ watchbox.Session, filter string) {
		fmt.Println("somebody listens to", filter)
		close(done)
	})
	srv := httptest.NewServer(hub)
	defer srv.Close()
	_, hangUp := exampleListen(srv.URL + "/v1/groups/home/+")
	defer hangUp()
	<-done
	// Output: somebody listens to home/+
}

func ExampleHub_OnLeave() {
	hub, err := watchbox.New()
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	done := make(chan bool)
	uid := make(chan string, 1)
	hub.OnConnect(func(s watchbox.Session) { uid <- s.UID })
	hub.OnLeave(func(_ watchbox.Session, filter string) {
		fmt.Println("somebody listens no more to", filter)
		close(done)
	})
	srv := httptest.NewServer(hub)
	defer srv.Close()
	_, hangUp := exampleListen(srv.URL + "/v1/groups/home")
	defer hangUp()
	exampleCall("DELETE", srv.URL+"/v1/sessions/"+<-uid+"/groups/home", "")
	<-done
	// Output: somebody listens no more to home
}

func ExampleHub_OnReconnect() {
	hub, err := watchbox.New()
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	said := make(chan string, 10)
	hub.OnReconnect(func(watchbox.Session) { said <- "back in time" })
	hub.OnDisconnect(func(watchbox.Session, watchbox.Reason) { said <- "gone" })
	srv := httptest.NewServer(hub)
	defer srv.Close()

	_, hangUp := exampleListen(srv.URL + "/v1/groups/home")
	hangUp()
	for lost := false; !lost; { // until the hub has noticed
		lost = strings.Contains(exampleCall("GET", srv.URL+"/v1/presence/home", ""), `"lost"`)
	}
	_, hangUp = exampleListen(srv.URL + "/v1/groups/home")
	defer hangUp()
	fmt.Println(<-said)
	// Output: back in time
}

func ExampleHub_OnDisconnect() {
	hub, err := watchbox.New(watchbox.WithSessionTimeout(100 * time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	done := make(chan bool)
	hub.OnDisconnect(func(_ watchbox.Session, why watchbox.Reason) {
		fmt.Println("gone:", why)
		close(done)
	})
	srv := httptest.NewServer(hub)
	defer srv.Close()
	_, hangUp := exampleListen(srv.URL + "/v1/groups/home")
	hangUp()
	<-done
	// Output: gone: closed
}

// A revocation refuses the grants with an ID and ends their streams.
func ExampleHub_Revoke() {
	hub, err := watchbox.New(watchbox.WithAuthorize(func(*http.Request) (*watchbox.Grant, error) {
		return &watchbox.Grant{Subject: "anna", ID: "phone", Subscribe: []string{"#"}}, nil
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	srv := httptest.NewServer(hub)
	defer srv.Close()

	fmt.Println(exampleCall("GET", srv.URL+"/v1/groups", ""))
	if err := hub.Revoke(context.Background(), watchbox.Revocation{ID: "phone"}); err != nil {
		log.Fatal(err)
	}
	status, _, _ := strings.Cut(exampleCall("GET", srv.URL+"/v1/groups", ""), " ")
	fmt.Println(status)
	// Output:
	// 200 {"groups":[]}
	//
	// 401
}
