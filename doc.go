// Package watchbox is a message hub that speaks plain HTTP: clients listen to a group with one
// long GET (Server-Sent Events) and send with a POST. It is a http.Handler, and runs by itself or
// mounted in a program:
//
//	wb, err := watchbox.New(watchbox.WithMaxMemory(64 << 20))
//	…
//	err = wb.Run(ctx, "127.0.0.1:1234", nil)
//
// It makes two promises. An id never names two contents. And a listener that comes back with the
// last id it saw gets everything since, or is told by a gap event that it cannot: nothing is lost
// in silence.
package watchbox
