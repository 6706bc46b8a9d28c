package oci

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Tagged is an image under a tag, with what is attached to it.
type Tagged struct {
	Tag      string
	Image    v1.Image
	Attached []v1.Image
}

// layouts are the ways to put a plugin into an image, with what is added to the tag for each.
var layouts = []struct {
	suffix string
	make   func(Plugin) (v1.Image, error)
}{{"", Compat}, {"-artifact", Artifact}}

// Bundle makes both images of a plugin, with the documents attached to each: under the tag that of layout Compat, under
// TAG-artifact the other.
func Bundle(p Plugin, tag string, documents []Attachment) ([]Tagged, error) {
	var all []Tagged
	for _, l := range layouts {
		image, err := l.make(p)
		if err != nil {
			return nil, err
		}
		t := Tagged{Tag: tag + l.suffix, Image: image}
		for _, d := range documents {
			a, err := Attach(image, d)
			if err != nil {
				return nil, err
			}
			t.Attached = append(t.Attached, a)
		}
		all = append(all, t)
	}
	return all, nil
}
