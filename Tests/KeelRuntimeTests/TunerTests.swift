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

  /// What is put for a text in a file of the kernels.
  private typealias Fault = (file: String, text: String, replacement: String)

  /// The outcome of a product on a CPU with faults planted in the kernels; nil where there is no CPU device.
  private func outcome(of product: Graph, merges: Bool = false, _ faults: [Fault]) throws -> Tuner.Outcome? {
    let device = try Device.best()
    guard device.kind == .cpu else {
      print("skipped: no CPU device")
      return nil
    }
    let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../Kernels")
      .standardizedFileURL
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("keel-tuner-\(UUID())")
    defer { try? FileManager.default.removeItem(at: folder) }
    try FileManager.default.copyItem(at: source, to: folder)
    for fault in faults {
      let file = folder.appendingPathComponent(fault.file)
      let text = try String(contentsOf: file, encoding: .utf8)
      let broken = text.replacingOccurrences(of: fault.text, with: fault.replacement)
      try #require(broken != text)
      try Data(broken.utf8).write(to: file)
    }
    let context = try ComputeContext(
      device, environment: ["KEEL_KERNELS_DIR": folder.path, "KEEL_CACHE_DIR": "", "KEEL_TUNE_DIR": ""])
    return try Tuner(context, repeats: 1, merges: merges).tune(product)
  }

  /// The variants for CPUs.
  private static let tiled = ["direct", "packed", "panels", "split"]

  /// Their tile loses the last column.
  private static let lostColumn: Fault = (
    "gemm/gemm_tile.clh", "lane < width - j; lane++", "lane < width - j - 1; lane++"
  )

  /// What is said to be wrong with a variant; nil for nothing.
  private func fault(of variant: String, in outcome: Tuner.Outcome) -> String? {
    guard case .wrong(let fault) = verdict(on: variant, in: outcome) else { return nil }
    return fault
  }

  private func verdict(on variant: String, in outcome: Tuner.Outcome) -> Tuner.Verdict? {
    outcome.candidates.first { $0.variant == variant }?.verdict
  }

  /// The first that is right is chosen, though it is slower.
  @Test func wrongVariantIsReplaced() throws {
    guard let outcome = try outcome(of: product(33, 5, 17), [Self.lostColumn]) else { return }
    for name in Self.tiled {
      #expect(fault(of: name, in: outcome)?.hasPrefix("result 0 has") == true, "\(outcome.candidates)")
    }
    #expect(outcome.current == "direct" && !Self.tiled.contains(outcome.best))
    let right = outcome.candidates.first { !Self.tiled.contains($0.variant) }
    #expect(right?.verdict == .preferred, "\(outcome.candidates)")
    #expect(outcome.seconds.current == nil && outcome.seconds.best != nil)
  }

  /// So it is where the variant in use does not build, or writes behind its result. Two variants are of that file.
  @Test(arguments: [
    ("UPDATE_BEGIN", "UPDATE_BEGIN missing;", "undeclared identifier"),
    ("UPDATE_BEGIN", "UPDATE_BEGIN C[(size_t)M * N] = 0;", "[tune] wrote behind matMul result 0"),
  ]) func failingVariantIsReplaced(text: String, replacement: String, message: String) throws {
    guard
      let outcome = try outcome(of: product(33, 5, 17), [("gemm/gemm_direct_cpu.cl", text, replacement)])
    else { return }
    let broken = ["direct", "panels"]
    #expect(outcome.current == "direct" && !broken.contains(outcome.best))
    for name in broken {
      #expect(fault(of: name, in: outcome)?.contains(message) == true, "\(outcome.candidates)")
    }
    #expect(outcome.candidates.filter { $0.verdict == .preferred }.count == 1, "\(outcome.candidates)")
    // The others are none the worse for it.
    for name in KernelFamilies.variants["gemm", default: []] where !broken.contains(name) {
      #expect(fault(of: name, in: outcome) == nil, "\(outcome.candidates)")
    }
  }

  /// What has local memory comes first here after those that are wrong, and makes room for what can be merged, though
  /// that is made to do all a hundred times.
  @Test func whatCanBeMergedIsPreferred() throws {
    let slow: Fault = (
      "gemm/gemm_naive.cl", "for (size_t k = 0; k < K; k++) value =",
      "for (volatile int turn = 0; turn < 100; turn++, value = turn < 100 ? 0 : value)\n"
        + "for (size_t k = 0; k < K; k++) value ="
    )
    guard let outcome = try outcome(of: product(33, 5, 17), merges: true, [Self.lostColumn, slow]) else { return }
    #expect(verdict(on: "blocks128", in: outcome) == .preferred, "\(outcome.candidates)")
    #expect(verdict(on: "naive", in: outcome) == .preferred, "\(outcome.candidates)")
    #expect(outcome.best == "naive")
  }

  /// What has local memory would stay by itself between the halves of a step.
  @Test func whatCannotBeMergedIsLeft() throws {
    for context in Devices.contexts where context.profile.isCPU && context.profile.tuned.isEmpty {
      let outcome = try Tuner(context, repeats: 1, merges: true).tune(product(24, 24, 24))
      for (name, verdict) in outcome.candidates {
        #expect((verdict == .notMergeable) == name.hasPrefix("blocks"), "\(name): \(verdict)")
      }
      #expect(outcome.candidates.contains { $0.verdict == .notMergeable }, "\(outcome.candidates)")
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
