import KeelCL
import KeelCore
import KeelPrimitives
import Testing

@Suite struct VariantTests {
  private func profile(isCPU: Bool) throws -> DeviceProfile {
    var profile = DeviceProfile(try Device.best())
    profile.isCPU = isCPU
    profile.vectorFloats = 16
    return profile
  }

  /// The last variant of each family is the naive one, which takes whatever there is.
  @Test func everyFamilyEndsNaive() {
    for (family, variants) in KernelFamilies.variants {
      #expect(variants.last == "naive", "\(family): \(variants)")
      #expect(Set(variants).count == variants.count)
    }
  }

  @Test func firstThatFitsIsChosen() throws {
    let (cpu, gpu) = (try profile(isCPU: true), try profile(isCPU: false))
    let gemm = GemmProblem(m: 32, n: 10, k: 32)
    #expect(try gemm.variant(on: cpu).name == "direct")
    #expect(try gemm.variant(on: gpu).name == "blocks64")
    #expect(try GemmProblem(m: 1024, n: 1024, k: 1024).variant(on: cpu).name == "packed")
    #expect(try GemmProblem(m: 784, n: 300, k: 1000, transposeA: true).variant(on: cpu).name == "packed")
    #expect(try GemmProblem(m: 784, n: 300, k: 1000).variant(on: cpu).name == "direct")
    var avx2 = cpu
    avx2.vectorFloats = 8
    #expect(try GemmProblem(m: 784, n: 300, k: 1000).variant(on: avx2).name == "panels")
    #expect(try GemmProblem(m: 32, n: 300, k: 784).variant(on: avx2).name == "direct")
    // It runs what it is not preferred for.
    #expect(try gemm.variant(on: cpu, forced: ["gemm": "packed"]).name == "packed")
    #expect(throws: VariantUnavailable.self) { try gemm.variant(on: gpu, forced: ["gemm": "packed"]) }

    func batchNorm(_ shape: Shape, _ axis: Int) -> BatchNormForwardProblem {
      BatchNormForwardProblem(ChannelExtents(shape, axis: axis), epsilon: 1e-5)
    }
    #expect(try batchNorm([32, 10], 1).variant(on: cpu).name == "fused")
    #expect(try batchNorm([256, 128], 1).variant(on: cpu).name == "fused")
    #expect(try batchNorm([256, 129], 1).variant(on: cpu).name == "columns")
    #expect(try batchNorm([32, 10, 8], 1).variant(on: cpu).name == "rows")
    // 16 MB and more, in whole lines, past the caches.
    #expect(try batchNorm([1 << 16, 64], 1).variant(on: cpu).name == "streamedColumns")
    #expect(try batchNorm([1 << 16, 65], 1).variant(on: cpu).name == "columns")
    #expect(try batchNorm([1 << 10, 64, 64], 1).variant(on: cpu).name == "streamedPlanes")
    #expect(try batchNorm([1 << 12, 64, 64], 1).variant(on: cpu).name == "streamedRows")
    #expect(try batchNorm([1 << 10, 8, 64], 1).variant(on: cpu).name == "rows")
    #expect(try batchNorm([1 << 8, 16, 64], 1).variant(on: cpu).name == "planes")
    #expect(try batchNorm([1 << 10, 64, 65], 1).variant(on: cpu).name == "planes")
    #expect(try batchNorm([1 << 12, 64, 65], 1).variant(on: cpu).name == "rows")
    #expect(try batchNorm([32, 10, 7], 1).variant(on: cpu).name == "naive")
    #expect(try batchNorm([32, 10], 1).variant(on: gpu).name == "groups")
    func backward(_ shape: Shape) -> BatchNormBackwardProblem {
      BatchNormBackwardProblem(ChannelExtents(shape, axis: 1), epsilon: 1e-5)
    }
    #expect(try backward([32, 10]).variant(on: cpu).name == "fused")
    #expect(try backward([4096, 64]).variant(on: cpu).name == "columns")
    #expect(try backward([32, 10, 8]).variant(on: cpu).name == "rows")
    #expect(try backward([32, 10, 7]).variant(on: cpu).name == "naive")
    #expect(try backward([32, 10, 8]).variant(on: gpu).name == "groups")
    // Tests run what is meant for GPUs on CPUs; a device with smaller groups does not take it at all.
    #expect(try backward([32, 10, 8]).variant(on: cpu, forced: ["batchNormBackward": "groups"]).name == "groups")
    var small = gpu
    small.maxWorkGroupSize = 128
    #expect(try backward([32, 10, 8]).variant(on: small).name == "naive")

    #expect(try ReductionProblem(.sum, outer: 1, reduced: 16385, inner: 1).variant(on: cpu).name == "slices")
    #expect(try ReductionProblem(.sum, outer: 1, reduced: 16384, inner: 1).variant(on: cpu).name == "rows")
    #expect(try ReductionProblem(.sum, outer: 3, reduced: 31, inner: 1).variant(on: cpu).name == "naive")
    #expect(try ReductionProblem(.sum, outer: 3, reduced: 31, inner: 8).variant(on: cpu).name == "columns")
    #expect(try ReductionProblem(.sum, outer: 1, reduced: 1024, inner: 128).variant(on: cpu).name == "lines")
    #expect(try SoftmaxProblem(.forward, rows: 32, classes: 10).variant(on: cpu).name == "rows")
    #expect(try SoftmaxProblem(.forward, rows: 32, classes: 10).variant(on: gpu).name == "naive")
  }

  @Test func forcedVariantIsTakenOrRefused() throws {
    let cpu = try profile(isCPU: true)
    let gemm = GemmProblem(m: 3, n: 4, k: 5, transposeB: true)
    #expect(try gemm.variant(on: cpu, forced: ["gemm": "naive"]).name == "naive")
    #expect(try gemm.variant(on: cpu, forced: ["reduce": "rows"]).name == "direct")
    let unknown = #expect(throws: VariantUnavailable.self) { try gemm.variant(on: cpu, forced: ["gemm": "magic"]) }
    let text = unknown?.description ?? ""
    for part in ["[gemm]", "3×4×5 NT", "packed, split, panels, direct, blocks128, blocks64, naive", "magic", cpu.name] {
      #expect(text.contains(part), "\(text)")
    }
    #expect(throws: VariantUnavailable.self) {
      try ReductionProblem(.max, outer: 3, reduced: 31, inner: 1).variant(on: cpu, forced: ["reduce": "columns"])
    }
  }

  /// What splits a sum is the shape alone: a device with more cores gives the same bits.
  @Test func workspaceDependsOnTheShapeAlone() throws {
    let problem = ReductionProblem(.sum, outer: 1, reduced: 100_003, inner: 1)
    let variant = try #require(ReductionProblem.variants.first { $0.name == "slices" })
    // 63 slices of 1792 values or fewer, one float each.
    let bytes = try variant.workspaceBytes(problem, profile(isCPU: true))
    #expect(bytes % 4 == 0 && bytes / 4 <= 64 && bytes > 4)
  }
}
