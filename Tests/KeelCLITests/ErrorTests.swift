import Foundation
import Testing

@testable import KeelCLI

extension ToolTests {
  /// What the built tool says to those who ask for the impossible: one error on standard error, a code, nothing else.
  @Suite struct ErrorTests {
    private func expectError(
      _ tool: Tool, _ arguments: [String], code: Int32 = 1, says words: String..., environment: [String: String] = [:],
      location: SourceLocation = #_sourceLocation
    ) throws {
      let outcome = try tool.run(arguments, environment: environment)
      #expect(outcome.exited, "\(arguments): \(outcome.errors)", sourceLocation: location)
      #expect(outcome.code == code, "\(arguments): \(outcome.errors)", sourceLocation: location)
      #expect(outcome.output.isEmpty, "\(arguments): \(outcome.output)", sourceLocation: location)
      #expect(outcome.errors.hasPrefix("error: "), "\(outcome.errors)", sourceLocation: location)
      for word in words { #expect(outcome.errors.contains(word), "\(outcome.errors)", sourceLocation: location) }
      let files = try FileManager.default.contentsOfDirectory(atPath: tool.folder.path)
      #expect(!files.contains { $0.hasPrefix("keel-") }, "something was saved", sourceLocation: location)
    }

    @Test func usage() throws {
      let tool = try Tool()
      defer { tool.remove() }
      try expectError(tool, ["train", "nonsense"], code: 64, says: "mnist-bn", "mnist-plain", "hands-on")
      try expectError(tool, ["train", "--epochs", "0"], code: 64, says: "--epochs expects 1 or more, got 0")
      try expectError(tool, ["nonsense"], code: 64, says: "nonsense")
      let version = try tool.run("--version")
      #expect(version.code == 0)
      #expect(version.output.hasPrefix("keel "))
      #expect(try tool.run("train", "--help").output.contains("--learning-rate"))
    }

    @Test func devices() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let name = try #require((tool.run("devices", "--json").json()["devices"] as? [[String: Any]])?.first?["device"])
      try expectError(tool, ["train", "--device", "abacus"], says: "\"abacus\"", "\(name)")
      try expectError(
        tool, ["train"], says: "\"abacus\" (from KEEL_DEVICE)", "\(name)", environment: ["KEEL_DEVICE": "abacus"])
      try expectError(tool, ["train", "--device", "99:0"], says: "99:0", "\(name)")
    }

    @Test func stages() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let words = "KEEL_DUMP expects stages out of trace"
      let outcome = try tool.run(["train", "--epochs", "1"], environment: ["KEEL_DUMP": "launch"])
      #expect(outcome.code == 1 && outcome.errors.contains(words) && outcome.errors.contains("got launch"))
    }

    @Test func outputs() throws {
      let tool = try Tool()
      defer { tool.remove() }
      try expectError(tool, ["train", "--out", "missing/m.safetensors"], says: "there is no folder")
      try expectError(tool, ["train", "--out", "."], says: "this is a folder")
    }

    @Test func dataFiles() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let images = "dots/train-images-idx3-ubyte"
      try expectError(tool, ["train", "--data", "mnist", "--data-dir", "missing"], says: "missing", "no such folder")
      try expectError(
        tool, ["train", "--data", "mnist"], says: "t10k-labels-idx1-ubyte", environment: ["KEEL_DATA": tool.folder.path]
      )

      try writeQuartet(tool, "dots")
      let whole = [UInt8](try Data(contentsOf: tool.folder.appendingPathComponent(images)))
      let train = ["train", "--data", "mnist", "--data-dir", "dots"]
      try tool.write(Array(whole.dropLast(5)), to: images)
      try expectError(tool, train, says: images, "truncated")
      try tool.write([0, 0, 8, 1] + whole.dropFirst(4), to: images)
      try expectError(tool, train, says: images, "wrong magic")
      try tool.write(idx([0xFFFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFF], []), to: images)
      try expectError(tool, train, says: images, "exceed")
      try tool.write(Array(repeating: 0x1F, count: 2) + whole, to: images)
      try expectError(tool, train, says: images)
      try tool.write(whole, to: images)
      try tool.write(idx([60], Array(repeating: 11, count: 60)), to: "dots/t10k-labels-idx1-ubyte")
      try expectError(tool, ["train", "--data", "dots"], says: "label 11")
    }

    @Test func models() throws {
      let tool = try Tool()
      defer { tool.remove() }
      for command in ["evaluate", "predict"] {
        try expectError(tool, [command, "missing.safetensors"], says: "missing.safetensors", "no such file")
      }
      #expect(try tool.run("train", "--epochs", "1", "--out", "m.safetensors").code == 0)
      let whole = [UInt8](try Data(contentsOf: tool.folder.appendingPathComponent("m.safetensors")))
      var broken: [(String, [UInt8])] = [
        ("empty", []), ("short", Array(whole.prefix(6))), ("half", Array(whole.prefix(whole.count / 2))),
        ("longer", whole + [0]), ("noise", (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 167) }),
      ]
      let text = String(decoding: whole.prefix(4000), as: UTF8.self)
      #expect(text.contains("keel.model"))
      if let place = text.range(of: "keel.model") {
        var renamed = whole
        renamed[text.utf8.distance(from: text.startIndex, to: place.lowerBound)] = UInt8(ascii: "x")
        broken.append(("renamed", renamed))
      }
      for (name, bytes) in broken {
        try tool.write(bytes, to: name)
        try expectError(tool, ["evaluate", name], says: name)
      }

      try writeQuartet(tool, "dots")
      try expectError(tool, ["evaluate", "m.safetensors", "--data", "dots"], says: "expects samples of 8×8", "4×4")
      try expectError(tool, ["predict", "m.safetensors", "--data", "dots"], says: "expects samples of 8×8", "4×4")
    }

    @Test func images() throws {
      let tool = try Tool()
      defer { tool.remove() }
      #expect(try tool.run("train", "--epochs", "1", "--out", "m.safetensors").code == 0)
      func expect(_ arguments: String..., says words: String) throws {
        try expectError(tool, ["predict", "m.safetensors"] + arguments, says: words)
      }
      try tool.write(Array("P2\n2 2\n255\n1 2 3 4\n".utf8), to: "small.pgm")
      try tool.write(Array("P5\n8 8\n255\nabc".utf8), to: "short.pgm")
      try tool.write(Array("hello".utf8), to: "text")
      try tool.write(idx([3], [1, 2, 3]), to: "labels")
      try expect("missing.pgm", says: "no such file")
      try expect("small.pgm", says: "got samples of 2×2 from small.pgm")
      try expect("short.pgm", says: "truncated")
      try expect("text", says: "expected a PGM or an IDX file")
      try expect("labels", says: "labels")
      try expect(".", says: "folder")
      try expect("--index", "360", says: "test images 0…359")
      try expect("--index", "-1", says: "test images 0…359")
    }
  }
}
