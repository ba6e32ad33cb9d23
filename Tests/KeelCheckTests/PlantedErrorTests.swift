import Foundation
import KeelCL
import KeelCheck
import KeelCore
import KeelGraph
import KeelKernels
import KeelPrimitives
import Testing

/// The checks can fail: kernels with an error in them are found out.
@Suite(.serialized) @MainActor struct PlantedErrorTests {
  /// A runner whose kernels have `text` of the file `name` replaced.
  private func withKernel(
    _ name: String, _ text: String, replacedBy edit: String, _ body: (CheckRunner) throws -> Void
  ) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("keel-planted-\(UUID())")
    defer { try? FileManager.default.removeItem(at: folder) }
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    for file in KernelSource.names {
      var kernel = try KernelSource(directory: nil).text(file)
      if file == name {
        #expect(kernel.contains(text), "\(name) no longer has what this test edits")
        kernel = kernel.replacingOccurrences(of: text, with: edit)
      }
      try kernel.write(to: folder.appendingPathComponent(file), atomically: true, encoding: .utf8)
    }
    let environment = ["KEEL_KERNELS_DIR": folder.path, "KEEL_CACHE_DIR": ""]
    try body(CheckRunner(ComputeContext(Device.best(), environment: environment)))
  }

  private func kernelCase(_ description: String) throws -> KernelCase {
    try #require(KernelCases.all.first { $0.description == description })
  }

  private func reason(_ result: CheckResult?) -> String {
    if case .failed(let reason) = result?.verdict { return reason }
    return "passed"
  }

  /// The ragged edge of a tile loses its last column.
  @Test func wrongTileEdgeFails() throws {
    try withKernel(
      "gemm_tile.clh", "lane < width - j; lane++", replacedBy: "lane < width - j - 1; lane++"
    ) {
      runner in
      guard runner.context.profile.isCPU else { return print("skipped: no CPU device") }
      let ragged = runner.check(try kernelCase("gemm 33×5×17 NN f32"), variant: "direct")
      #expect(ragged?.hasFailed == true, "\(String(describing: ragged))")
      #expect(ragged?.description.contains("FAILED") == true)
      // Whole tiles do not come there, and the naive form is another file.
      #expect(runner.check(try kernelCase("gemm 6×16×16 NN f32"), variant: "direct")?.hasFailed == false)
      #expect(runner.check(try kernelCase("gemm 33×5×17 NN f32"), variant: "naive")?.hasFailed == false)
    }
  }

  /// A write one element too far does not change any result; the canary tells.
  @Test func writeBehindAnOutputFails() throws {
    try withKernel("softmax_cross_entropy.cl", "correct[n] = ", replacedBy: "correct[n + 1] = 0; correct[n] = ") {
      runner in
      let result = runner.check(try kernelCase("softmaxCrossEntropy 1×10 top one f32"), variant: "naive")
      #expect(reason(result).contains("wrote behind"), "\(String(describing: result))")
    }
  }

  /// So does one behind a workspace.
  @Test func writeBehindAWorkspaceFails() throws {
    try withKernel(
      "reduce.cl", "  workspace[get_global_id(1) * outputs + index] =",
      replacedBy: "  workspace[get_num_groups(1) * get_local_size(1) * outputs + index] = 0;\n"
        + "  workspace[get_global_id(1) * outputs + index] ="
    ) { runner in
      let result = runner.check(try kernelCase("reduce sum of [100003] over [0] f32"), variant: "slices")
      #expect(reason(result).contains("workspace"), "\(String(describing: result))")
    }
  }

  /// Memory is NaN before the run: what reads an output that nobody wrote is found out.
  @Test func readingAnOutputFails() throws {
    try withKernel("transpose.cl", "to[i3] = from[i3 * s3]", replacedBy: "to[i3] = from[i3 * s3] + 0 * to[i3]") {
      runner in
      guard runner.context.profile.isCPU else { return print("skipped: no CPU device") }
      let result = runner.check(try kernelCase("transpose [5, 7] to [1, 0] f32"), variant: "rows")
      #expect(result?.hasFailed == true, "\(String(describing: result))")
    }
  }

  /// A formula that is only slightly off: the biased variance taken for the unbiased one.
  @Test func slightlyWrongFormulaFails() throws {
    try withKernel(
      "batchnorm_columns.clh", "moments[k].lost) / (REAL)rows", replacedBy: "moments[k].lost) / (REAL)(rows - 1)"
    ) { runner in
      guard runner.context.profile.isCPU else { return print("skipped: no CPU device") }
      let result = runner.check(try kernelCase("batchNormForward [1025, 8] axis 1 f32"), variant: "fused")
      #expect(result?.hasFailed == true, "\(String(describing: result))")
    }
  }

  /// A bias correction that keeps four digits: 1 minus a rounded power of 0.999.
  @Test func roundedBiasCorrectionFails() throws {
    try withKernel("adam.clh", "1 / sqrt(-expm1(t * logBeta2))", replacedBy: "1 / sqrt(1 - pow(beta2, t))") { runner in
      let result = runner.check(try kernelCase("optimizer Adam, 6 tensors, step 0 f32"), variant: "naive")
      #expect(result?.hasFailed == true, "\(String(describing: result))")
    }
  }

  /// A sum that leaves out one of its 20000 terms, whatever the inputs.
  @Test(arguments: [1, 8, 31] as [UInt64]) func sumWithoutATermFails(seed: UInt64) throws {
    try withKernel("reduce.cl", "r < last; r++) part", replacedBy: "r < last; r++) if (r != 41) part") { runner in
      var kernelCase = try kernelCase("reduce sum of [20000, 9] over [0] f32")
      kernelCase.seed = seed
      let result = runner.check(kernelCase, variant: "naive")
      #expect(result?.hasFailed == true, "\(String(describing: result))")
    }
  }

  /// Without its barrier the first item of a group merges what the others have not written yet.
  @Test func missingBarrierFails() throws {
    for (file, name, description) in [
      ("batchnorm_statistics.cl", "batchNormForward", "batchNormForward [1025, 8] axis 1 f32"),
      ("batchnorm_backward_reduce.cl", "batchNormBackward", "batchNormBackward [7, 9, 16] axis 1 f32"),
    ] {
      try withKernel(file, "barrier(CLK_LOCAL_MEM_FENCE);", replacedBy: "") { runner in
        let result = runner.check(try kernelCase(description), variant: "groups")
        #expect(result?.family == name && reason(result).contains("is wrong"), "\(String(describing: result))")
      }
    }
  }

  /// A step at the very point: the difference quotient sees it, the gradient does not.
  @Test func wrongGradientFails() throws {
    for context in Devices.contexts where context.profile.hasFP64 {
      func check(_ center: Double) throws -> GradientCheck.Result {
        try GradientCheck(context).run(
          GradientCase("step", inputs: [CaseInput("x", [9], .values([center]))]) { t in
            (t["x"].elementwise(.greater, 0.0) + t["x"]).sum()
          })
      }
      let result = try check(0)
      #expect(result.hasFailed && result.description.contains("along x"), "\(result)")
      let beside = try check(1)
      #expect(!beside.hasFailed, "\(beside)")
    }
  }

  /// A family that the graph does not hold, a variant that is none, and a case that cannot be built.
  @Test func casesThatCheckNothingFail() throws {
    let runner = CheckRunner(try #require(Devices.contexts.first))
    func made(_ family: String, _ build: @escaping @Sendable (CaseTensors) -> [String: Tensor]) -> KernelCase {
      KernelCase(family, "planted", .float32, inputs: [CaseInput("x", [4])], bound: .exact, build: build)
    }
    let empty = runner.check(made("gemm") { t in ["y": t["x"] + t["x"]] })
    #expect(empty.allSatisfy { reason($0).contains("no launch of the variant") } && !empty.isEmpty, "\(empty)")
    let magic = runner.check(made("magic") { t in ["y": t["x"]] })
    #expect(magic.count == 1 && magic[0].hasFailed)
    #expect(
      runner.check(made("elementwise") { t in ["y": t["z"] + 1.0] }).allSatisfy { reason($0).contains("no input z") })
    #expect(runner.check(made("elementwise") { t in ["y": t["x"] + 1.0] }, variant: "magic") == nil)
  }
}
