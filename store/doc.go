// Package store is the log, as a contract: one total order of messages over all groups, kept as
// long as policies say, and exact about what is no longer there.
//
// A message is stored as the bytes that go over the wire, its frame:
//
//	id: 4k7q9x-1042\n
//	event: alarm\n                                    only where the sender named an event
//	data: {"id":"4k7q9x-1042","group":"foo","event":"alarm","uid":"…","time":"…",
//	       "expires":"…","retain":true,"encoding":"base64","msg":…}\n
//	\n
//
// Members that do not apply are absent. Behind the event name every member but msg has a fixed
// length, and msg comes last: so one offset and a few flags find each of them without parsing.
// All but the id is encoded before the append ([Message.Entry]); the store writes the id in
// front of it while it copies.
//
// What every store promises (storetest has a test for each number):
//
//   - I1 what Append returned without error can be read until a policy evicts it
//   - I2 ids rise by one per message over all groups; an Append that returned before another
//     began has the lower ids; the entries of one Append are next to each other, all or none
//   - I3 an id never names two contents, across restarts too
//   - I4 Read returns each message that matches, once, in order, and none that was not appended
//   - I5 Read never skips an evicted message silently: it reports a Gap, exactly when a message
//     that matched and had not expired was evicted behind the position
//   - I6 the retained message of a group is the last one appended with Retain, whatever was
//     evicted, until one with Clear, an expiry or Purge
//   - I7 a watcher's channel holds a wake-up after each append
//   - I8 what has expired makes room by itself, soon, and without a gap: a group whose messages have
//     all expired holds nothing, and gives way to another; a retained message that has expired is
//     none. Among messages that have not expired, one that has may take room until they go
//
// In plain words: who remembers the last id it saw, and asks for what is behind it, gets all of
// it or is told that it cannot.
package store
