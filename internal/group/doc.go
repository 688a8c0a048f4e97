// Package group knows names and filters: what may be sent to, and what may be listened to.
//
// A name is UTF-8 levels joined by "/", as home/kitchen/temp. A filter is a name, or a pattern
// in which "+" stands for one level and "#", as the last level, for any number of levels, its
// parent included. The rules are MQTT 5.0's (section 4.7), made stricter where a browser or a
// proxy would rewrite a path: no empty level, no "." and no "..".
package group
