import Foundation
import KeelCore
import KeelIO
import Testing

@Suite struct IDXTests {
  private let folder: TemporaryFolder
  /// Two images of 2×3 pixels.
  private let images: [UInt8] = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3] + Array(0..<12)
  private let labels: [UInt8] = [0, 0, 8, 1, 0, 0, 0, 2, 9, 0]

  init() throws { folder = try TemporaryFolder() }

  private func says(_ bytes: [UInt8], rank: Int? = nil, _ expected: String) {
    #expect(message { try IDX.decode(bytes, name: "f", rank: rank) } == "[idx] f: " + expected)
  }

  @Test func readsPlainAndGzip() throws {
    let plain = try folder.write(images, to: "images")
    // Content decides, not the name.
    let packed = try folder.write(try Gzip.compress(images), to: "images.bin")
    for path in [plain, packed] {
      let tensor = try IDX.readImages(path)
      #expect(tensor.type == TensorType([2, 2, 3], .uint8))
      #expect(tensor.bytes == Array(0..<12))
    }
    #expect(try IDX.readLabels(try folder.write(labels, to: "labels")) == HostTensor([2], [Int32(9), 0]))
  }

  @Test(arguments: [[5], [2, 3], [2, 3, 4, 5], [1, 1, 1, 1, 1, 1, 1, 2]])
  func roundTrip(shape: [Int]) throws {
    let count = shape.reduce(1, *)
    let tensor = try HostTensor(Shape(shape), (0..<count).map { UInt8($0) })
    #expect(try IDX.decode(IDX.encode(tensor), name: "f") == tensor)
  }

  @Test func encodeTakesBytesOnly() throws {
    let floats = try HostTensor([1], [Float(1)])
    #expect(message { try IDX.encode(floats) } == "[idx] encode: expected u8 of rank 1…8, got f32[1]")
  }

  @Test func wrongMagic() {
    says(Array("P5 3".utf8), "wrong magic: expected 00 00 08 rank, got 50 35 20 33")
    says([0, 0, 0x0d, 1], "wrong magic: elements of type float (00 00 0d 01), expected unsigned byte")
    says(labels, rank: 3, "wrong magic: expected 00 00 08 03, got 00 00 08 01, which is rank 1")
    says(images, rank: 1, "wrong magic: expected 00 00 08 01, got 00 00 08 03, which is rank 3")
    says([0, 0, 8, 0], "rank 0, expected 1…8")
    says([0, 0, 8, 9], "rank 9, expected 1…8")
  }

  @Test func truncated() {
    says([], "truncated: 0 bytes, expected a header of at least 4")
    says([0, 0, 8], "truncated: 3 bytes, expected a header of at least 4")
    says(Array(images.prefix(15)), "truncated: 15 bytes, expected a header of 16 for rank 3")
    says(Array(images.dropLast()), "truncated: [2, 2, 3] asks for 28 bytes, the file has 27")
    says(images + [1, 2], "2 bytes too many: [2, 2, 3] asks for 28, the file has 30")
  }

  @Test func absurdDimensions() {
    let huge: [UInt8] = [0xff, 0xff, 0xff, 0xff]
    says([0, 0, 8, 1] + huge, "dimensions [4294967295] exceed the limit of 2147483648 elements")
    // (2³² − 1)³ does not fit 64 bits.
    says(
      [0, 0, 8, 3] + huge + huge + huge,
      "dimensions [4294967295, 4294967295, 4294967295] exceed the limit of 2147483648 elements")
    says([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 0], "extent 0 on axis 1, expected at least 1")
    #expect(
      message { try IDX.decode(labels, name: "f", limit: 1) }
        == "[idx] f: dimensions [2] exceed the limit of 1 elements")
  }

  @Test func labelOutOfRange() throws {
    let path = try folder.write([0, 0, 8, 1, 0, 0, 0, 7, 0, 1, 2, 3, 9, 11, 12], to: "train-labels")
    #expect(message { try IDX.readLabels(path) } == "[idx] \(path): label 11 at index 5, expected 0…9")
    #expect(try IDX.readLabels(path, classCount: 13).count == 7)
  }

  @Test func countsOfImagesAndLabels() throws {
    let images = try folder.write(images, to: "images")
    let good = try folder.write(labels, to: "labels")
    let pair = try IDX.readPair(images: images, labels: good)
    #expect(pair.images.shape == [2, 2, 3] && pair.labels.shape == [2])
    let bad = try folder.write([0, 0, 8, 1, 0, 0, 0, 3, 9, 0, 1], to: "three")
    #expect(
      message { try IDX.readPair(images: images, labels: bad) }
        == "[idx] \(bad): 3 labels for the 2 images of \(images)")
  }

  @Test func filesThatCannotBeRead() throws {
    let absent = folder.file("absent")
    #expect(message { try IDX.read(absent) } == "[idx] \(absent): no such file")
    #expect(message { try IDX.read(folder.path) } == "[idx] \(folder.path): expected a file, got a folder")
    let cut = try folder.write(Array(try Gzip.compress(images).dropLast(4)), to: "cut.gz")
    #expect(message { try IDX.read(cut) }.hasPrefix("[gzip] \(cut): truncated"))
    let packed = try folder.write(try Gzip.compress(images), to: "packed.gz")
    #expect(
      message { try IDX.read(packed, limit: 20) } == "[gzip] \(packed): unpacks to more than the limit of 20 bytes")
    let plain = try folder.write(images, to: "plain")
    #expect(message { try IDX.read(plain, limit: 20) } == "[idx] \(plain): 28 bytes, expected at most 20")
  }
}
