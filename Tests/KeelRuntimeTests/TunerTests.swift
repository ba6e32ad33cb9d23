import Foundation
import KeelCL
import KeelCore
import KeelGraph
import KeelPrimitives
import Testing

@testable import KeelRuntime

@Suite(.serialized) @MainActor struct TunerTests {
  private func product(_ m: Int, _ n: Int, _ k: Int) throws -> Graph {
    let builder = GraphBuilder(name: "product", mode: .evaluation, dtype: .float32)
    let (a, b) = (builder.input("i0", TensorType([m, k])), builder.input("i1", TensorType([k, n])))
    builder.output("o0", a.matMul(b))
    return try builder.graph()
  }

  /// The fast variants lose the last column. The first that is right is chosen, though it is slower.
  @Test func wrongVariantIsReplaced() throws {
    let device = try Device.best()
    guard device.kind == .cpu else { return print("skipped: no CPU device") }
    let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../Kernels")
      .standardizedFileURL
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("keel-tuner-\(UUID())")
    defer { try? FileManager.default.removeItem(at: folder) }
    try FileManager.default.copyItem(at: source, to: folder)
    let file = folder.appendingPathComponent("gemm/gemm_tile.clh")
    let text = try String(contentsOf: file, encoding: .utf8)
    let broken = text.replacingOccurrences(of: "lane < width - j; lane++", with: "lane < width - j - 1; lane++")
    try #require(broken != text)
    try Data(broken.utf8).write(to: file)
    let context = try ComputeContext(
      device, environment: ["KEEL_KERNELS_DIR": folder.path, "KEEL_CACHE_DIR": "", "KEEL_TUNE_DIR": ""])
    let outcome = try Tuner(context, repeats: 1, merges: false).tune(product(33, 5, 17))
    func verdict(_ name: String) -> Tuner.Verdict? { outcome.candidates.first { $0.variant == name }?.verdict }
    func isWrong(_ verdict: Tuner.Verdict?) -> Bool {
      if case .wrong = verdict { true } else { false }
    }
    #expect(isWrong(verdict("direct")) && isWrong(verdict("packed")), "\(outcome.candidates)")
    #expect(outcome.current == "direct" && !["direct", "packed"].contains(outcome.best))
    let right = outcome.candidates.first { !["direct", "packed"].contains($0.variant) }
    guard case .faster = right?.verdict else {
      Issue.record("\(outcome.candidates)")
      return
    }
  }

  /// What has local memory would stay by itself between the halves of a step.
  @Test func whatCannotBeMergedIsLeft() throws {
    for context in Devices.contexts where context.profile.isCPU && context.profile.tuned.isEmpty {
      let outcome = try Tuner(context, repeats: 1, merges: true).tune(product(24, 24, 24))
      for (name, verdict) in outcome.candidates {
        #expect((verdict == .notMergeable) == name.hasPrefix("blocks"), "\(name): \(verdict)")
      }
    }
  }

  @Test func boundIsThatOfTheElementType() throws {
    func fault(_ dtype: DType, _ value: Double, for wanted: Double) throws -> String? {
      let type = TensorType([2], dtype)
      return try Tuner.fault(
        of: [HostTensor(type, values: [value, 1])], [HostTensor(type, values: [wanted, 1])])
    }
    #expect(try fault(.float32, 1 + 0x1p-14, for: 1) == nil)
    #expect(try fault(.float32, 1 + 0x1p-12, for: 1) == "result 0 has 1.000244140625 for 1.0")
    #expect(try fault(.float64, 1 + 0x1p-43, for: 1) == nil)
    #expect(try fault(.float64, 1 + 0x1p-40, for: 1) != nil)
    // One neighbour, and not two.
    #expect(try fault(.bfloat16, 1 + 0x1p-7, for: 1) == nil)
    #expect(try fault(.bfloat16, 1 + 0x1p-6, for: 1) != nil)
    #expect(try fault(.int32, 1_000_000, for: 1_000_001) != nil)
    #expect(try fault(.float32, .nan, for: 1) != nil)
    #expect(try fault(.float32, .nan, for: .nan) == nil)
    #expect(try fault(.float32, .infinity, for: .infinity) == nil)
  }
}
