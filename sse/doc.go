// Package sse implements Server-Sent Events (WHATWG HTML, 9.2): an encoder, a reader, a client that
// resumes, and, for servers, connections that let few goroutines write to many streams, or read
// and write many connections of other protocols. It does not
// depend on groups or hubs.
package sse
