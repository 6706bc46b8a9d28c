package soak

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"testing"
	"time"
)

// The library has three pages: what is only read and run, what the dynamic linker writes to, and the shift. The last one is
// mapped from the file, so a process sees what is written to the file while it runs. It is made here, byte by byte,
// because a compiler for C, or the faketime package, is more than the tests ask for.
const (
	pageSize    = 0x1000
	dynamicPage = 1 * pageSize
	shiftPage   = 2 * pageSize
	symbolsAt   = 0x200
	namesAt     = 0x300
	hashAt      = 0x400
	codeAt      = 0x500
)

// shifted are the functions of libc that tell the wall clock, in x86-64 machine code: each asks the kernel, and adds the
// shift to the seconds.
var shifted = []struct {
	name string
	code []byte
	at   int // where the 4 bytes go that say how far it is from their end to the shift
}{
	{"clock_gettime", []byte{
		0xb8, 228, 0, 0, 0, // mov eax, SYS_clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xc0, // test eax, eax
		0x75, 0x15, // jnz end
		0x85, 0xff, // test edi, edi      CLOCK_REALTIME
		0x74, 0x05, // jz shift
		0x83, 0xff, 5, // cmp edi, CLOCK_REALTIME_COARSE
		0x75, 0x0a, // jne ok
		0x48, 0x8b, 0x05, 0, 0, 0, 0, // shift: mov rax, [rip + …]
		0x48, 0x01, 0x06, // add [rsi], rax
		0x31, 0xc0, // ok: xor eax, eax
		0xc3, // end: ret
	}, 23},
	{"gettimeofday", []byte{
		0xb8, 96, 0, 0, 0, // mov eax, SYS_gettimeofday
		0x0f, 0x05, // syscall
		0x48, 0x8b, 0x05, 0, 0, 0, 0, // mov rax, [rip + …]
		0x48, 0x01, 0x07, // add [rdi], rax
		0x31, 0xc0, // xor eax, eax
		0xc3, // ret
	}, 10},
	{"time", []byte{
		0xb8, 201, 0, 0, 0, // mov eax, SYS_time
		0x0f, 0x05, // syscall
		0x48, 0x03, 0x05, 0, 0, 0, 0, // add rax, [rip + …]
		0x48, 0x85, 0xff, // test rdi, rdi
		0x74, 0x03, // jz end
		0x48, 0x89, 0x07, // mov [rdi], rax
		0xc3, // end: ret
	}, 10},
}

// clockShiftLibrary is a shared object for Linux on x86-64 that defines the functions above, with a shift of 0.
func clockShiftLibrary() []byte {
	file := make([]byte, shiftPage+pageSize)
	put := func(at int, values ...any) {
		var b bytes.Buffer
		for _, v := range values {
			if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
				panic(err) // a value of no fixed size, above
			}
		}
		copy(file[at:], b.Bytes())
	}

	symbols, names, at := []any{elf.Sym64{}}, []byte{0}, codeAt
	for _, f := range shifted {
		symbols = append(symbols, elf.Sym64{
			Name: uint32(len(names)), Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC), Shndx: 1,
			Value: uint64(at), Size: uint64(len(f.code)),
		})
		names = append(append(names, f.name...), 0)
		put(at, f.code)
		put(at+f.at, int32(shiftPage-(at+f.at+4)))
		at += (len(f.code) + 15) &^ 15
	}
	put(symbolsAt, symbols...)
	put(namesAt, names)
	// One bucket, which begins a chain of all symbols.
	put(hashAt, []uint32{1, uint32(len(symbols)), 1, 0, 2, 3, 0})

	dynamic := []elf.Dyn64{
		{Tag: int64(elf.DT_HASH), Val: hashAt},
		{Tag: int64(elf.DT_SYMTAB), Val: symbolsAt},
		{Tag: int64(elf.DT_SYMENT), Val: elf.Sym64Size},
		{Tag: int64(elf.DT_STRTAB), Val: namesAt},
		{Tag: int64(elf.DT_STRSZ), Val: uint64(len(names))},
		{Tag: int64(elf.DT_NULL)},
	}
	put(dynamicPage, dynamic)

	segment := func(kind elf.ProgType, flags elf.ProgFlag, at, size int) elf.Prog64 {
		return elf.Prog64{Type: uint32(kind), Flags: uint32(flags), Off: uint64(at), Vaddr: uint64(at), Paddr: uint64(at),
			Filesz: uint64(size), Memsz: uint64(size), Align: pageSize}
	}
	segments := []elf.Prog64{
		segment(elf.PT_LOAD, elf.PF_R|elf.PF_X, 0, pageSize),
		segment(elf.PT_LOAD, elf.PF_R|elf.PF_W, dynamicPage, pageSize),
		segment(elf.PT_LOAD, elf.PF_R, shiftPage, pageSize),
		segment(elf.PT_DYNAMIC, elf.PF_R|elf.PF_W, dynamicPage, binary.Size(dynamic)),
		segment(elf.PT_GNU_STACK, elf.PF_R|elf.PF_W, 0, 0),
	}
	const headerSize, segmentSize = 64, 56
	put(0, elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Phoff: headerSize, Ehsize: headerSize, Phentsize: segmentSize, Phnum: uint16(len(segments)),
	})
	put(headerSize, segments)
	return file
}

// set shifts the clock of all processes that have the library.
func (c *clockShift) set(t testing.TB, shift time.Duration) {
	t.Helper()
	word := binary.LittleEndian.AppendUint64(nil, uint64(int64(shift/time.Second)))
	if _, err := c.file.WriteAt(word, shiftPage); err != nil {
		t.Fatal(err)
	}
}
