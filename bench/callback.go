package main

import (
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"regexp"
	"slices"
)

// sampleCallback is the callback of a completed avatar task with four images, 1.1 KB.
//
//go:embed callback.json
var sampleCallback []byte

// slot is a place in the callback that has one of its random identifiers.
type slot struct {
	at int
	id uint64 // the same for places that have the same identifier
}

// slots are all places of the task's id, its business id and its images' ids. They are
// replaced, so that every callback of the load is of another task.
var slots = findSlots(sampleCallback)

func findSlots(body []byte) []slot {
	places := regexp.MustCompile(`\b[0-9a-f]{32}\b`).FindAllIndex(body, -1)
	found := make([]slot, 0, len(places))
	var seen []string
	for _, at := range places {
		value := string(body[at[0]:at[1]])
		if !slices.Contains(seen, value) {
			seen = append(seen, value)
		}
		found = append(found, slot{at: at[0], id: uint64(slices.Index(seen, value))})
	}
	return found
}

// appendCallback appends the callback with that number. All have the same
// length, and different numbers give different callbacks.
func appendCallback(dst []byte, number uint64) []byte {
	start := len(dst)
	dst = append(dst, sampleCallback...)
	body := dst[start:]
	for _, s := range slots {
		var id [16]byte
		binary.BigEndian.PutUint64(id[:8], scramble(number))
		binary.BigEndian.PutUint64(id[8:], scramble(number^(s.id+1)<<56))
		hex.Encode(body[s.at:], id[:])
	}
	return dst
}

// scramble maps numbers one to one to numbers that look random, as Fotor's ids do, so that
// no index profits from ascending keys. It is SplitMix64's finalizer.
func scramble(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}
