import KeelCore
import KeelIO
import Testing

@Suite struct PGMTests {
  private func says(_ text: String, _ expected: String) {
    #expect(message { try PGM.decode(Array(text.utf8), name: "f") } == "[pgm] f: " + expected)
  }

  @Test func readsTextAndBinary() throws {
    let text = try PGM.decode(Array("P2 # made by hand\n3 2\n# white:\n16\n0 1 2\n3 4 16\n".utf8), name: "f")
    #expect(text.pixels == (try HostTensor([2, 3], [UInt8(0), 1, 2, 3, 4, 16])))
    #expect(text.maximum == 16)
    #expect(try text.normalized == HostTensor([2, 3], [0, 0.0625, 0.125, 0.1875, 0.25, 1].map { Float($0) }))
    let binary = try PGM.decode(Array("P5\n3 2 255\n".utf8) + [10, 32, 255, 0, 35, 13], name: "f")
    #expect(binary.pixels.bytes == [10, 32, 255, 0, 35, 13])
    #expect(binary.pixels.shape == [2, 3])
  }

  @Test func roundTripThroughAFile() throws {
    let folder = try TemporaryFolder()
    let pixels = try HostTensor([28, 28], (0..<784).map { UInt8(truncatingIfNeeded: $0) })
    for bytes in [try PGM.encode(pixels), try Gzip.compress(PGM.encode(pixels))] {
      #expect(try PGM.read(folder.write(bytes, to: "image.pgm")).pixels == pixels)
    }
    #expect(
      message { try PGM.encode(pixels.reshaped(to: [784])) }.hasPrefix("[pgm] encode: expected u8[height, width]"))
  }

  @Test func malformed() {
    says("P6 1 1 255 ", "expected P5 or P2 at the start")
    says("", "expected P5 or P2 at the start")
    says("P5 3", "truncated: ends where height is expected")
    says("P5 # 3 2 255", "truncated: ends where width is expected")
    says("P2 3 x 255 1", "height at byte 5 is not a number")
    says("P2 3 -2 255 1", "height at byte 5 is not a number")
    says("P2 0 2 255 1", "size 0×2, expected at least 1×1")
    says("P2 1 1 65535 1", "maximum 65535, expected 1…255 (8 bits a pixel)")
    says("P2 1 1 0 0", "maximum 0, expected 1…255 (8 bits a pixel)")
  }

  @Test func pixels() {
    says("P5 3 2 255 abcde", "truncated: expected 6 bytes of pixels, got 5")
    says("P5 3 2 255", "truncated: expected 6 bytes of pixels, got 0")
    says("P5 1 2 97 ab", "pixel 1 is 98, expected 0…97")
    says("P5 1 1 255 ab", "1 bytes after the image, expected one image a file")
    says("P2 2 1 255 7", "truncated: ends where pixel 1 is expected")
    says("P2 2 1 255 7 256", "pixel 1 is 256, expected 0…255")
    says("P2 2 1 9 7 10", "pixel 1 is 10, expected 0…9")
    says("P2 2 1 9 7 8 9", "1 bytes after the image, expected one image a file")
    says("P2 9 9 9 7", "truncated: 2 bytes cannot hold 81 numbers")
  }

  @Test func absurdSizes() {
    says("P5 100000 100000 255 ", "size 100000×100000 exceeds the limit of \(PGM.pixelLimit) pixels")
    says(
      "P5 99999999999999999999 99999999999999999999 255 ",
      "size 9999999999×9999999999 exceeds the limit of \(PGM.pixelLimit) pixels")
  }
}
