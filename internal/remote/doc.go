// Package remote has the code that the clients of a hub share: it parses a hub's address and interprets its responses.
package remote
