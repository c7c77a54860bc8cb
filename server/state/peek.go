package state

// PeekOrigin reads whose commands an entry carries, and the first sequence
// number, without decoding the commands.
func PeekOrigin(data []byte) (o Origin, firstSeq uint64, ok bool) {
	d := decoder{b: data}
	d.version(commandsVersion)
	o = Origin{Member: d.uint64(), Incarnation: d.uint64()}
	firstSeq = d.uvarint()
	return o, firstSeq, d.err == nil
}
