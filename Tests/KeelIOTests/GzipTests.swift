import KeelIO
import Testing

@Suite struct GzipTests {
  /// 600 000 bytes: more than two of the pieces in which zlib is fed.
  private let long = (0..<600_000).map { UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 13) }

  @Test(arguments: [0, 1, 6, 9]) func roundTrip(level: Int) throws {
    for bytes in [[], [7], long] {
      let packed = try Gzip.compress(bytes, level: level)
      #expect(Gzip.isGzip(packed))
      #expect(try Gzip.decompress(packed, name: "x") == bytes)
    }
  }

  @Test func readsWhatTheGzipProgramWrites() throws {
    // printf keel | gzip -n
    let packed: [UInt8] = [
      0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xcb, 0x4e, 0x4d, 0xcd, 0x01, 0x00, 0x44, 0x14,
      0xf1, 0xdf, 0x04, 0x00, 0x00, 0x00,
    ]
    #expect(try Gzip.decompress(packed, name: "x") == Array("keel".utf8))
  }

  @Test func membersAndZeroPaddingAreTaken() throws {
    let packed = try Gzip.compress([1, 2]) + Gzip.compress([3]) + [0, 0, 0, 0]
    #expect(try Gzip.decompress(packed, name: "x") == [1, 2, 3])
  }

  @Test func truncated() throws {
    let packed = try Gzip.compress(long)
    // In the header, in the data, in the trailer.
    for length in [3, 5, 10, 1000, packed.count - 9, packed.count - 1] {
      let text = message { try Gzip.decompress(Array(packed.prefix(length)), name: "a.gz") }
      #expect(text == "[gzip] a.gz: truncated: ends after \(length) bytes, inside the compressed data")
    }
  }

  @Test func corrupt() throws {
    var packed = try Gzip.compress(Array("keel keel keel".utf8))
    packed[packed.count - 6] ^= 0x40
    #expect(message { try Gzip.decompress(packed, name: "a.gz") }.hasSuffix("incorrect data check"))
    packed[packed.count - 6] ^= 0x40
    packed[packed.count - 2] ^= 0x40
    #expect(message { try Gzip.decompress(packed, name: "a.gz") }.hasSuffix("incorrect length check"))
    packed[10] = 0xff
    #expect(message { try Gzip.decompress(packed, name: "a.gz") }.hasPrefix("[gzip] a.gz: corrupt at byte"))
  }

  @Test func trailingBytes() throws {
    let packed = try Gzip.compress([1, 2, 3]) + [9, 9]
    #expect(
      message { try Gzip.decompress(packed, name: "a.gz") }
        == "[gzip] a.gz: 2 bytes after the end of the compressed data")
  }

  @Test func limit() throws {
    let packed = try Gzip.compress([UInt8](repeating: 0, count: 1_000_000))
    #expect(packed.count < 2000)
    #expect(try Gzip.decompress(packed, name: "a.gz", limit: 1_000_000).count == 1_000_000)
    #expect(
      message { try Gzip.decompress(packed, name: "a.gz", limit: 999_999) }
        == "[gzip] a.gz: unpacks to more than the limit of 999999 bytes")
  }

  @Test func otherBytesAreNoGzip() {
    #expect(
      message { try Gzip.decompress([1, 2, 3], name: "a") } == "[gzip] a: expected the bytes 1f 8b 08 at the start")
    #expect(!Gzip.isGzip([0x1f, 0x8b]))
  }
}
