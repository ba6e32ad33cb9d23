import Testing

@testable import KeelCL

@Suite struct CLErrorTests {
  @Test(
    arguments: [
      (0, "CL_SUCCESS"), (-1, "CL_DEVICE_NOT_FOUND"), (-4, "CL_MEM_OBJECT_ALLOCATION_FAILURE"),
      (-5, "CL_OUT_OF_RESOURCES"), (-11, "CL_BUILD_PROGRAM_FAILURE"), (-19, "CL_KERNEL_ARG_INFO_NOT_AVAILABLE"),
      (-30, "CL_INVALID_VALUE"), (-38, "CL_INVALID_MEM_OBJECT"), (-42, "CL_INVALID_BINARY"),
      (-52, "CL_INVALID_KERNEL_ARGS"), (-54, "CL_INVALID_WORK_GROUP_SIZE"), (-61, "CL_INVALID_BUFFER_SIZE"),
      (-63, "CL_INVALID_GLOBAL_WORK_SIZE"), (-68, "CL_INVALID_DEVICE_PARTITION_COUNT"), (-71, "CL_INVALID_SPEC_ID"),
      (-1001, "CL_PLATFORM_NOT_FOUND_KHR"),
    ] as [(Int32, String)])
  func name(code: Int32, name: String) {
    #expect(CLError.name(of: code) == name)
  }

  @Test func theTableHasNoHolesAndNoDoubles() {
    for code in Array(-19...0) + Array(-71 ... -30) {
      #expect(CLError.names[Int32(code)] != nil, "\(code) has no name")
    }
    #expect(Set(CLError.names.values).count == CLError.names.count)
    #expect(CLError.name(of: -12345) == "unknown OpenCL error")
  }

  @Test func text() {
    let full = CLError(
      call: "clEnqueueNDRangeKernel", subject: "gemm_tiled", code: -54, detail: "local 32x32, device limit 256")
    #expect(
      full.description
        == "clEnqueueNDRangeKernel gemm_tiled: CL_INVALID_WORK_GROUP_SIZE (-54), local 32x32, device limit 256")
    #expect(CLError(call: "clFinish", code: -5).description == "clFinish: CL_OUT_OF_RESOURCES (-5)")
    #expect(
      CLError(call: "clBuildProgram", subject: "a.cl", code: -11, buildLog: "a.cl:3: no").description
        == "clBuildProgram a.cl: CL_BUILD_PROGRAM_FAILURE (-11)\na.cl:3: no")
  }
}
