// Package sample makes tasks as Fotor's callbacks and its task API have them, to try a
// gateway.
package sample

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
)

// Types are known task types of Fotor; there are more.
var Types = []string{"avatar", "videoEnhancer", "text2img", "img2img", "ecommercelistingset"}

// Statuses are the names of a task's status, in the order of Fotor's numbers.
var Statuses = []string{"in_progress", "completed", "failed"}

// ParseStatus returns the number of a status that is given by its name or its number.
func ParseStatus(value string) (int, error) {
	if status := slices.Index(Statuses, value); status >= 0 {
		return status, nil
	}
	number, err := strconv.ParseInt(value, 10, 32)
	if err != nil {
		return 0, errors.New("expected in_progress, completed, failed, or a number such as 3")
	}
	return int(number), nil
}

// Kind is what tasks have in common.
type Kind struct {
	Type      string // such as avatar
	Sensitive bool   // the results are harmful or sensitive
}

// The statuses as numbers.
const (
	InProgress = 0
	Completed  = 1
	Failed     = 2
)

// Object is a task as Fotor's callbacks and its task API have it, with its order of fields.
// hasHsfw is Fotor's spelling.
type Object struct {
	TaskID     string  `json:"taskId"`
	CreateTime int64   `json:"createTime,omitempty"`
	UpdateTime int64   `json:"updateTime,omitempty"`
	Status     int     `json:"status"`
	BusinessID string  `json:"businessId"`
	Type       string  `json:"type"`
	ResultURL  *string `json:"resultUrl,omitempty"`
	HasHsfw    *bool   `json:"hasHsfw,omitempty"`

	CreditsIncrement int              `json:"creditsIncrement,omitempty"`
	Result           []Part           `json:"result,omitempty"`
	AvatarResult     []AvatarTemplate `json:"avatarResult,omitempty"`
	Msg              string           `json:"msg,omitempty"`
}

// Part is one of the results of a task that has several.
type Part struct {
	Name    string `json:"name"`
	Success bool   `json:"success"`
	URL     string `json:"url,omitempty"`
	Error   string `json:"error,omitempty"`
}

// AvatarTemplate is a template of an avatar task, with its images.
type AvatarTemplate struct {
	TemplateID string        `json:"templateId"`
	Images     []AvatarImage `json:"images"`
}

// AvatarImage is an image of an avatar task.
type AvatarImage struct {
	ID      string `json:"id"`
	URL     string `json:"url"`
	HasHsfw bool   `json:"hasHsfw"`
}

const (
	resultHost    = "https://static.fotor.com.cn"
	pubResultHost = "https://pub-static.fotor.com"
)

// avatarTemplates are the templates of one of Fotor's samples.
var avatarTemplates = []string{
	"d691196a-6daa-4bf9-a011-5422d95ce03f",
	"74d8ef37-4864-480b-927a-dde52e429609",
	"7292c5b5-ecb0-4868-b4a4-849c73cc302c",
}

// NewTask returns the identifiers of a new task.
func NewTask(random io.Reader) (task, business string, err error) {
	if task, err = newID(random); err != nil {
		return "", "", err
	}
	business, err = newID(random)
	return task, business, err
}

// newID returns an identifier like Fotor's: 32 hexadecimal digits.
func newID(random io.Reader) (string, error) {
	var id [16]byte
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return "", fmt.Errorf("making an id: %w", err)
	}
	return hex.EncodeToString(id[:]), nil
}

// Make returns a task of that kind with that status.
func (k Kind) Make(random io.Reader, now time.Time, task, business string, status int) (*Object, error) {
	o := &Object{TaskID: task, Status: status, BusinessID: business, Type: k.Type}
	if k.Sensitive {
		o.HasHsfw = new(true)
	}
	if status == Completed {
		if err := k.complete(o, random, now); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// JSON returns the body of a callback.
func (o *Object) JSON() ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // Fotor does not escape the & of a URL
	if err := encoder.Encode(o); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// complete adds the members that a completed task of that type has.
func (k Kind) complete(o *Object, random io.Reader, now time.Time) error {
	switch k.Type {
	case "avatar":
		o.ResultURL, o.HasHsfw = new(""), nil // Fotor flags each image instead
		return k.addAvatars(o, random, now)
	case "ecommercelistingset":
		url := fmt.Sprintf("%s/aigc/business/%s/%s_0.jpg", pubResultHost, o.BusinessID, o.TaskID)
		o.UpdateTime = now.UnixMilli()
		o.CreateTime = now.Add(-5 * time.Minute).UnixMilli()
		o.ResultURL, o.CreditsIncrement, o.HasHsfw = &url, 32, &k.Sensitive
		o.Result = []Part{
			{Name: "主图", Success: true, URL: url},
			{Name: "场景图", Error: "生图失败 401"},
		}
	case "videoEnhancer":
		o.ResultURL = new(resultURL(now, o.BusinessID, "video", o.TaskID+".mp4") +
			fmt.Sprintf("?Expires=%d&Signature=a%%2Fb%%3D", now.Add(7*24*time.Hour).Unix()))
	default:
		o.ResultURL = new(resultURL(now, o.BusinessID, "image", o.TaskID+".jpg"))
	}
	return nil
}

func (k Kind) addAvatars(o *Object, random io.Reader, now time.Time) error {
	for i, template := range avatarTemplates {
		id, err := newID(random)
		if err != nil {
			return err
		}
		o.AvatarResult = append(o.AvatarResult, AvatarTemplate{template, []AvatarImage{{
			ID: id, URL: resultURL(now, o.BusinessID, "avatar", id+".jpg"), HasHsfw: k.Sensitive && i == 0,
		}}})
	}
	return nil
}

func resultURL(now time.Time, business, kind, file string) string {
	return fmt.Sprintf("%s/aigc/business/%s/%s/%s/%s", resultHost, business, kind, now.UTC().Format("20060102"), file)
}
