package main

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
)

// sampleCallback is the callback of a completed avatar task with four images, 1.1 KB.
//
//go:embed callback.json
var sampleCallback []byte

// slot is a place in a callback that has one of its random identifiers.
type slot struct {
	at int
	id uint64 // the same for places that have the same identifier
}

// maxSlots bounds how many places of a callback are replaced: as many as the usual one has.
// The task's is the first, so that every callback of the load is of another task.
const maxSlots = 14

// model is a callback of which others are made.
type model struct {
	body  []byte
	slots []slot
}

// usual is the model of which most callbacks are made.
var usual = newModel(sampleCallback)

func newModel(body []byte) *model { return &model{body, findSlots(body)} }

// findSlots finds the task's id, its business id and its images' ids.
func findSlots(body []byte) []slot {
	places := regexp.MustCompile(`\b[0-9a-f]{32}\b`).FindAllIndex(body, maxSlots)
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

// leastBody is the size of the smallest callback that can be made.
const leastBody = 256

// modelOf returns a model of that many bytes: the usual one, or else one that has as many
// images as fit.
func modelOf(size int) *model {
	if size == len(usual.body) {
		return usual
	}
	const (
		begin  = `{"taskId":"39371b3800cc4a7e9e24867b0dfdf25b","status":1,"businessId":"75f15294e55540e198bb19cc0a068fd2","type":"avatar","resultUrl":"https://static.fotor.com.cn/`
		middle = `","avatarResult":[`
		end    = `]}`

		beginImages = `{"templateId":"d691196a-6daa-4bf9-a011-5422d95ce03f","images":[`
		image       = `{"id":"%[1]s","url":"https://static.fotor.com.cn/aigc/business/75f15294e55540e198bb19cc0a068fd2/avatar/20241126/%[1]s.jpg","hasHsfw":false}`
		endImages   = `]}`
	)
	var images []byte
	for n := uint64(0); ; n++ {
		more := fmt.Appendf(nil, image, fmt.Sprintf("%016x%016x", scramble(n), scramble(n+1)))
		if len(begin+middle+beginImages+endImages+end)+len(images)+len(more)+1 > size {
			break
		}
		if n > 0 {
			images = append(images, ',')
		}
		images = append(images, more...)
	}
	if len(images) > 0 {
		images = slices.Concat([]byte(beginImages), images, []byte(endImages))
	}
	padding := size - len(begin+middle+end) - len(images) // of the path of the result
	return newModel(slices.Concat([]byte(begin), bytes.Repeat([]byte("x"), padding), []byte(middle), images, []byte(end)))
}

// appendCallback appends the usual callback with that number. All have the same
// length, and different numbers give different callbacks.
func appendCallback(dst []byte, number uint64) []byte { return usual.append(dst, number) }

// append is appendCallback for the callbacks of a model.
func (m *model) append(dst []byte, number uint64) []byte {
	start := len(dst)
	dst = append(dst, m.body...)
	body := dst[start:]
	for _, s := range m.slots {
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
