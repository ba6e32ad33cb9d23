import Foundation
import KeelCore
import KeelIO
import Testing

@Suite struct SafetensorsTests {
  private func sample() throws -> Safetensors {
    Safetensors(
      tensors: [
        "layers.0.weight": try HostTensor([2, 3], [Float(1), -2, 3.5, .infinity, 0, 1e-30]),
        "layers.0.bytes": try HostTensor([3], [UInt8(1), 2, 255]),
        "layers.1.mean": try HostTensor([2], [1.0 / 3, -7]),
        "step": try HostTensor(.scalar, [Int32(-5)]),
        "empty \"é/": HostTensor(zeros: TensorType([0, 4])),
      ], metadata: ["format": "keel", "network": "{\"layers\": []}\nü"])
  }

  private func file(_ header: String, data: Int = 0, length: Int? = nil) -> [UInt8] {
    let json = Array(header.utf8)
    return withUnsafeBytes(of: UInt64(length ?? json.count).littleEndian) { Array($0) } + json
      + [UInt8](repeating: 0, count: data)
  }

  private func says(_ bytes: [UInt8], _ expected: String) {
    #expect(message { try Safetensors(decoding: bytes, name: "f") } == "[safetensors] f: " + expected)
  }

  private func entry(_ name: String, _ dtype: String, _ shape: String, _ offsets: String) -> String {
    "\"\(name)\":{\"dtype\":\"\(dtype)\",\"shape\":\(shape),\"data_offsets\":\(offsets)}"
  }

  @Test func roundTripThroughAFile() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("model.safetensors")
    try sample().write(to: path)
    #expect(try Safetensors(reading: path) == sample())
    #expect(try folder.names == ["model.safetensors"])
    #expect(try Safetensors(decoding: Safetensors().encoded(), name: "f") == Safetensors())
  }

  /// F16 and BF16 are the bits of the values.
  @Test func halfPrecision() throws {
    var bytes = file("{" + entry("a", "BF16", "[2]", "[0,4]") + "," + entry("b", "F16", "[2]", "[4,8]") + "}", data: 8)
    bytes.replaceSubrange(bytes.count - 8..<bytes.count, with: [0x80, 0x3F, 0x01, 0xC0, 0x00, 0x3C, 0x01, 0x80])
    let read = try Safetensors(decoding: bytes, name: "f")
    #expect(read.tensors["a"]?.type == TensorType([2], .bfloat16))
    #expect(read.tensors["a"]?.doubles == [1, -2.015625])
    #expect(read.tensors["b"]?.doubles == [1, -0x1p-24])
    #expect(try Safetensors(decoding: read.encoded(), name: "f") == read)
  }

  @Test func layoutIsFixedAndAligned() throws {
    let bytes = try sample().encoded()
    #expect(try bytes == sample().encoded())
    let headerLength = Int(bytes[0]) + Int(bytes[1]) << 8
    #expect(headerLength % 8 == 0)
    let header = String(decoding: bytes[8..<(8 + headerLength)], as: UTF8.self)
    // f64 first, then the 4-byte types by name, bytes last.
    let object = try #require(try JSONSerialization.jsonObject(with: Data(header.utf8)) as? [String: Any])
    func offsets(_ name: String) -> [Int]? { (object[name] as? [String: Any])?["data_offsets"] as? [Int] }
    #expect(offsets("layers.1.mean") == [0, 16])
    #expect(offsets("layers.0.weight") == [16, 40])
    #expect(offsets("step") == [40, 44])
    #expect(offsets("layers.0.bytes") == [44, 47])
    #expect(bytes.count == 8 + headerLength + 47)
  }

  /// Written byte for byte as the format's description says.
  @Test func readsTheFormatAsDescribed() throws {
    let header =
      "{\(entry("b", "U8", "[2]", "[4,6]")),\"__metadata__\":{\"a\":\"b\"},\(entry("x", "F32", "[1,1]", "[0,4]"))}  "
    let decoded = try Safetensors(decoding: file(header) + [0, 0, 0x80, 0x3f, 7, 8], name: "f")
    #expect(decoded.metadata == ["a": "b"])
    #expect(decoded.tensors == ["b": try HostTensor([2], [UInt8(7), 8]), "x": try HostTensor([1, 1], [Float(1)])])
  }

  @Test func headerSize() {
    says([1, 2, 3], "truncated: 3 bytes, expected at least 8")
    says(file("{}", length: 3), "header of 3 bytes, expected at most 2 in a file of 10")
    says(
      [UInt8](repeating: 0xff, count: 12), "header of 18446744073709551615 bytes, expected at most 4 in a file of 12")
    says(file("", data: 4), "expected a header that begins with {")
    says(file("[]"), "expected a header that begins with {")
  }

  @Test func headerText() {
    let prefix = "[safetensors] f: header: "
    for text in [
      "{\"x\":", "{\"x\":{\"dtype\":\"F32\",\"shape\":[1]}}",
      "{\"x\":{\"dtype\":1,\"shape\":[1],\"data_offsets\":[0,4]}}",
      "{" + entry("x", "F32", "[1.5]", "[0,4]") + "}", "{" + entry("x", "F32", "[1]", "[0,1e300]") + "}",
      "{\"__metadata__\":{\"a\":1}}",
    ] {
      #expect(message { try Safetensors(decoding: file(text, data: 4), name: "f") }.hasPrefix(prefix), "\(text)")
    }
  }

  @Test func types() {
    says(
      file("{" + entry("x", "F8_E4M3", "[4]", "[0,4]") + "}", data: 4),
      "x: element type F8_E4M3, expected one of BF16 F16 F32 F64 I32 U8")
    says(file("{" + entry("x", "F32", "[-1]", "[0,4]") + "}", data: 4), "x: shape [-1] is absurd")
    says(
      file("{" + entry("x", "F32", "[4294967296,4294967296]", "[0,4]") + "}", data: 4),
      "x: shape [4294967296, 4294967296] is absurd")
    says(file("{" + entry("x", "F32", "[2]", "[0,4]") + "}", data: 4), "x: f32[2] expects 8 bytes, got 4")
  }

  @Test func offsets() {
    says(
      file("{" + entry("x", "F32", "[2]", "[0,8]") + "}", data: 4), "x: offsets [0, 8], expected two in 0…4, in order")
    says(
      file("{" + entry("x", "F32", "[1]", "[4,0]") + "}", data: 4), "x: offsets [4, 0], expected two in 0…4, in order")
    says(
      file("{" + entry("x", "F32", "[1]", "[-4,0]") + "}", data: 4), "x: offsets [-4, 0], expected two in 0…4, in order"
    )
    says(
      file("{" + entry("x", "F32", "[1]", "[0,4,8]") + "}", data: 4),
      "x: offsets [0, 4, 8], expected two in 0…4, in order")
    says(file("{" + entry("x", "F32", "[0]", "[]") + "}"), "x: offsets [], expected two in 0…0, in order")
  }

  @Test func overlapAndHoles() {
    let x = entry("x", "F32", "[1]", "[0,4]")
    says(file("{\(x),\(entry("y", "U8", "[2]", "[3,5]"))}", data: 5), "y: begins at 3, inside a tensor that ends at 4")
    says(file("{\(x),\(entry("y", "U8", "[2]", "[5,7]"))}", data: 7), "1 bytes before y belong to no tensor")
    says(file("{\(x)}", data: 7), "3 bytes at the end belong to no tensor")
  }

  @Test func reservedName() throws {
    let bad = Safetensors(tensors: ["__metadata__": HostTensor(zeros: TensorType([1]))])
    #expect(message { try bad.encoded() } == "[safetensors] encode: __metadata__ is no name for a tensor")
  }

  @Test func truncatedAnywhereIsAnError() throws {
    let bytes = try sample().encoded()
    for length in stride(from: 0, to: bytes.count, by: 7) {
      #expect(throws: FormatError.self) { try Safetensors(decoding: Array(bytes.prefix(length)), name: "f") }
    }
  }
}
