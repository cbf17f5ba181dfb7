package callback_test

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
)

func ExampleParse() {
	rules, err := callback.NewRules(map[int]string{3: "failed"}, map[string]string{callback.BucketPrefix: callback.BucketURL})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, body := range []string{
		`{"taskId":"a","status":3,"type":"text2img","resultUrl":"s3://img-pub-fotor/a.jpg"}`,
		`{"taskId":"a","status":4}`,
	} {
		parsed, err := callback.Parse([]byte(body), rules)
		if invalid, ok := errors.AsType[*callback.InvalidError](err); ok {
			for _, p := range invalid.Problems {
				fmt.Println(p.Pointer, p.Detail)
			}
			continue
		}
		event := parsed.Event(callback.Arrival{At: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), Source: netip.MustParseAddr("54.212.95.175")})
		fmt.Println(event.ID)
		fmt.Println(string(event.Body))
	}
	// Output:
	// ca978112ca1bbdca1ba4da3c40424e43bab17a03124ea84e
	// {"id":"ca978112ca1bbdca1ba4da3c40424e43bab17a03124ea84e","taskId":"a","type":"text2img","status":"failed","statusCode":3,"businessId":null,"resultUrl":"https://pub-static.fotor.com/a.jpg","avatars":[],"sensitive":false,"extra":{},"receivedAt":"2026-11-23T12:00:00.000000Z","sourceIp":"54.212.95.175","origin":"callback","confirmed":null,"revision":1}
	// /status must be the integer 0 (in progress), 1 (completed) or 2 (failed), or one that map_status takes, which 4 is not
	// /type is required
}
