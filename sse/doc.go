// Package sse is events as bytes, and sockets that take them: an encoder, a reader and a resuming
// client for Server-Sent Events (WHATWG HTML, 9.2), and for a server the connections that many
// streams can be written to from few goroutines. It knows nothing of groups or hubs.
package sse
