// Package hub joins the log, delivery and sessions into the operations of Watchbox, without HTTP. Both
// the HTTP API and the public package for embedding call it.
package hub
