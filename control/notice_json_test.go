package control_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// AppendJSON encodes every field as encoding/json does.
func TestNoticeIsRenderedAsItsTypeSays(t *testing.T) {
	moment := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
	})
	rapid.Check(t, func(t *rapid.T) {
		var n control.Notice
		v := reflect.ValueOf(&n).Elem()
		for i := range v.NumField() {
			f, name := v.Field(i), v.Type().Field(i).Name
			if rapid.Bool().Draw(t, name+" is there") {
				continue
			}
			switch f.Interface().(type) {
			case string:
				f.SetString(rapid.String().Draw(t, name))
			case int, int64:
				f.SetInt(rapid.Int64Range(-1000, 1000).Draw(t, name))
			case float64:
				f.SetFloat(float64(rapid.Int64Range(0, 1e9).Draw(t, name)) / 1000)
			case time.Time:
				f.Set(reflect.ValueOf(moment.Draw(t, name)))
			case *time.Time:
				at := moment.Draw(t, name)
				f.Set(reflect.ValueOf(&at))
			default:
				t.Fatalf("field %s is of no known type", name)
			}
		}
		want, err := json.Marshal(n)
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(n.AppendJSON(nil)))
	})
}

func BenchmarkNotice(b *testing.B) {
	n := control.Notice{
		Kind: control.Delivered, Handler: "default", At: time.Now().UTC(), ID: "d4a9b85d194f3fc21a87c4298c968ceacc11ebc108cf050d",
		TaskID: "6cf0082eba5044f1a9495e0eaf5e35ca", Type: "avatar", Status: "completed", Attempt: 1, UpstreamStatus: 204, DurationMS: 1.234,
	}
	b.Run("AppendJSON", func(b *testing.B) {
		var buf []byte
		for b.Loop() {
			buf = n.AppendJSON(buf[:0])
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		for b.Loop() {
			if _, err := json.Marshal(&n); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Publish", func(b *testing.B) {
		f := control.NewFeed("default")
		for b.Loop() {
			f.Publish(n)
		}
	})
}
