// Package remote is what the clients of a hub share: which addresses it may have, and what its answers mean.
package remote
