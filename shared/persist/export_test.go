package persist

import (
	"encoding/binary"

	"sentinel-envoy/shared/checksum"
)

// Seal gives a document its length and its checksum.
func Seal(text []byte) []byte {
	binary.LittleEndian.PutUint32(text[len(magic)+4:], checksum.Sum(text[prefix:]))
	binary.LittleEndian.PutUint32(text[len(magic)+8:], uint32(len(text)-prefix))
	return text
}
