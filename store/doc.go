// Package store defines the log: one total order of messages over all groups, kept as long as
// policies say, with an exact account of what is no longer held.
//
// A message is stored as the bytes that go over the wire, its frame:
//
//	id: 4k7q9x-1042\n
//	event: alarm\n                                    only where the sender named an event
//	data: {"id":"4k7q9x-1042","group":"foo","event":"alarm","meta":[["a","1"],…],"uid":"…",
//	       "time":"…","expires":"…","retain":true,"encoding":"base64","msg":…}\n
//	\n
//
// Members that do not apply are absent. After meta, every member but msg has a fixed
// length, and msg comes last. One offset and a few flags therefore locate each member without
// parsing. Everything but the id is encoded before the append ([Message.Entry]); the store writes
// the id in front of it while it copies.
//
// What every store promises (storetest has a test for each number):
//
//   - I1 a message that Append accepted can be read until a policy evicts it or it expires
//   - I2 ids rise over all groups; the entries of one Append have consecutive ids, all or none; an
//     Append that returned before another began has the lower ids. Between two Appends a store may
//     skip ids
//   - I3 an id never names two contents, across restarts too
//   - I4 Read returns each matching message once, in order, and nothing that was not appended
//   - I5 Read never skips an evicted message silently: it reports a Gap if and only if a message
//     after the position that matched and had not expired was evicted
//   - I6 the retained message of a group is the last one appended with Retain, until a message with
//     Clear, its expiry, or Purge; eviction does not affect it
//   - I7 a watcher's channel holds a wake-up after each append
//   - I8 expired messages are evicted soon after they expire, which is no gap: a group whose messages
//     have all expired holds nothing and can be replaced by another; an expired retained message is
//     dropped. An expired message between others may take space until these are evicted
//
// In plain words: a reader that asks for everything after the last id it saw gets all of it, or a
// report of what is missing.
package store
