package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/client"
)

// hub starts a hub for an example and returns it with its address.
func hub() (h *watchbox.Hub, address string, end func()) {
	h, err := watchbox.New()
	if err != nil {
		log.Fatal(err)
	}
	srv := httptest.NewServer(h)
	return h, srv.URL, func() {
		_ = h.Close()
		srv.Close()
	}
}

func Example() {
	_, address, end := hub()
	defer end()

	c, err := client.New(address,
		client.OnDisconnect(func(err error) { log.Print("lost: ", err) }),
		client.OnReconnect(func() { log.Print("back again") }),
		client.OnGap(func(g client.Gap) { log.Print("missed messages of ", g.Filter) }))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	received := make(chan bool)
	sub, err := c.Join(ctx, "home/#", func(m client.Message) {
		fmt.Println(m.Group, m.Text())
		close(received)
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := c.Publish(ctx, "home/kitchen", "the kettle is on"); err != nil {
		log.Fatal(err)
	}
	<-received
	if err := sub.Leave(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: home/kitchen the kettle is on
}

func ExampleClient_Messages() {
	h, address, end := hub()
	defer end()
	c, err := client.New(address)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	if _, err := c.Publish(ctx, "home/temp", 20, client.Retain()); err != nil {
		log.Fatal(err)
	}
	for m, err := range c.Messages(ctx, "home/temp") {
		var celsius int
		if err := errors.Join(err, m.Decode(&celsius)); err != nil {
			log.Fatal(err)
		}
		if fmt.Println(celsius); celsius == 22 {
			break
		}
		if _, err := h.Publish(ctx, "home/temp", celsius+1); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 20
	// 21
	// 22
}

func ExampleError() {
	_, address, end := hub()
	defer end()
	c, err := client.New(address)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	_, err = c.Publish(context.Background(), "home/+", "which one?")
	if e, ok := errors.AsType[*client.Error](err); ok {
		fmt.Println(e.Status, e.Code)
	}
	_, err = c.Send(context.Background(), "is anybody there?")
	if e, ok := errors.AsType[*client.Error](err); ok {
		fmt.Println(e.Status, e.Code)
	}
	// Output:
	// 400 group-invalid
	// 404 nobody-listens
}

func ExampleClient_SetWill() {
	_, address, end := hub()
	defer end()
	c, err := client.New(address)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close() // a clean end: the will is not sent
	ctx := context.Background()
	if err := c.SetWill(ctx, "home/sensors", "the thermometer is gone", 0); err != nil {
		log.Fatal(err)
	}
	if _, err := c.Join(ctx, "home/thermometer", func(client.Message) {}); err != nil {
		log.Fatal(err)
	}
}

func ExampleClient_PublishBatch() {
	_, address, end := hub()
	defer end()
	c, err := client.New(address)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	_, _, err = c.PublishBatch(ctx, []client.Draft{
		{Group: "orders", Msg: map[string]int{"chairs": 2}},
		{Group: "stock/chairs", Msg: 40, Retain: true},
		{Group: "stock/tables", Msg: 7, Retain: true},
	})
	if err != nil {
		log.Fatal(err)
	}
	for m, err := range c.Retained(ctx, "stock/#") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(m.Group, m.Text())
	}
	// Output:
	// stock/chairs 40
	// stock/tables 7
}

func ExampleClient_Retained() {
	_, address, end := hub()
	defer end()
	c, err := client.New(address)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	if _, err := c.Publish(ctx, "door", "open", client.Retain()); err != nil {
		log.Fatal(err)
	}
	for m, err := range c.Retained(ctx, "door") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(m.Text())
	}
	// Output: open
}
