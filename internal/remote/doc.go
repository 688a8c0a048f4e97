// Package remote has the code that the clients of a hub share: it parses a hub's address, interprets its
// responses, and writes the metadata of a message as headers.
package remote
