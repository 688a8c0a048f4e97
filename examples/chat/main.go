// Command chat is a chat room in one file of Go and one page: run it with
//
//	go run ./examples/chat [ADDRESS]
//
// and open http://127.0.0.1:8080, or the address, in two windows.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/watchbox-go/watchbox"
)

//go:embed chat.html
var page []byte

// room is the only group of this chat.
const room = "chat/room"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	addr := "127.0.0.1:8080"
	if len(os.Args) > 1 {
		addr = os.Args[1]
	}
	if err := run(ctx, addr); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr string) (err error) {
	hub, err := watchbox.New(
		watchbox.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil))),
		watchbox.WithSessionTimeout(3*time.Second),
		watchbox.WithPolicy(room, watchbox.Policy{MaxMessages: 50}),
	)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hub.Close()) }()
	host(ctx, hub)

	r := chi.NewRouter()
	r.Use(middleware.Recoverer)
	r.Mount("/hub", hub)
	r.Get("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) })
	fmt.Fprintln(os.Stderr, "the chat is on http://"+addr)
	return hub.Run(ctx, addr, r)
}

// host makes the program take part in the chat: it announces people who join and leave, refuses swear words, and
// answers questions.
func host(ctx context.Context, hub *watchbox.Hub) {
	say := func(text string) {
		if _, err := hub.Publish(ctx, room, map[string]string{"from": "host", "text": text}); err != nil {
			log.Print(err)
		}
	}
	hub.OnConnect(func(s watchbox.Session) { say("somebody came: " + s.UID[:4]) })
	hub.OnReconnect(func(s watchbox.Session) { say("is back: " + s.UID[:4]) })
	hub.OnDisconnect(func(s watchbox.Session, why watchbox.Reason) {
		if why != watchbox.ReasonShutdown {
			say(fmt.Sprintf("has left: %s (%s)", s.UID[:4], why))
		}
	})
	hub.BeforePublish(func(_ context.Context, m *watchbox.Message) error {
		if strings.Contains(m.Text(), "damn") {
			return errors.New("mind your words, please")
		}
		return nil
	})
	hub.OnMessage(func(m watchbox.Message) {
		if strings.HasSuffix(strings.TrimSpace(m.Text()), "?") {
			if _, err := m.Reply(ctx, map[string]string{"from": "host", "text": "good question (only you see this)"}); err != nil {
				log.Print(err)
			}
		}
	})
}
