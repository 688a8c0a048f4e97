// Package watchbox is a message hub over plain HTTP: clients subscribe to a group with one long GET
// (Server-Sent Events) and publish with a POST. A Hub is an http.Handler. It runs alone or mounted in a
// program:
//
//	wb, err := watchbox.New(watchbox.WithMaxMemory(64 << 20))
//	…
//	err = wb.Run(ctx, "127.0.0.1:1234", nil)
//
// It makes two promises. An id never names two contents. A client that reconnects with the last id it
// saw gets every message since, or a gap event that says which messages are no longer held.
package watchbox
