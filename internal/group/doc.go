// Package group parses and matches group names, to which messages are sent, and filters, which
// select groups.
//
// A name consists of UTF-8 levels joined by "/", such as home/kitchen/temp. A filter is a name, or a
// pattern in which "+" matches one level and a final "#" matches any number of levels, including
// none (home/# matches home). The rules are those of MQTT 5.0 (section 4.7), but stricter where a
// browser or a proxy would rewrite a path: no level is empty, "." or "..".
package group
